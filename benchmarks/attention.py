"""Time attention with a cache of keys: qreg, executorch's decomposition, and its custom operator.

The three programs run alternately, with one thread; each time is the least of many. Trust the
ratios. Needs qreg-xnnpack and executorch's operators for language models.

    python benchmarks/attention.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

import qreg
from qreg.plugins.registry import installed
from qreg.utils.tables import print_table

HEADS, SHARED, DEPTH, LENGTH = 8, 4, 64, 512
ROUNDS = 30


class Attention(nn.Module):
    """Attention of heads that share keys, to a cache, as transformers writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.cached_keys = nn.Buffer(torch.zeros(1, SHARED, LENGTH, DEPTH))
        self.cached_values = nn.Buffer(torch.zeros(1, SHARED, LENGTH, DEPTH))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, positions: Tensor) -> Tensor:
        self.cached_keys.index_copy_(2, positions, key)
        self.cached_values.index_copy_(2, positions, value)
        mask = torch.arange(LENGTH)[None, None, None, :] <= positions[None, None, :, None]
        repeated = (
            cache[:, :, None]
            .expand(1, SHARED, HEADS // SHARED, LENGTH, DEPTH)
            .reshape(1, HEADS, LENGTH, DEPTH)
            for cache in (self.cached_keys, self.cached_values)
        )
        return scaled_dot_product_attention(query, *repeated, mask)


class Custom(nn.Module):
    """The same with the operator that writes to the cache and attends to it."""

    def __init__(self) -> None:
        super().__init__()
        self.cached_keys = nn.Buffer(torch.zeros(1, LENGTH, SHARED, DEPTH))
        self.cached_values = nn.Buffer(torch.zeros(1, LENGTH, SHARED, DEPTH))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, positions: Tensor) -> Tensor:
        start, count = positions[0].item(), query.shape[2]
        torch._check(start >= 0)
        torch._check(start < LENGTH - count)
        turned = (each.transpose(1, 2) for each in (query, key, value))
        caches = self.cached_keys, self.cached_values
        found = torch.ops.llama.sdpa_with_kv_cache(
            *turned, *caches, start, count, None, 0.0, True, None
        )
        return found.transpose(1, 2)  # type: ignore[no-any-return]


def inputs(count: int, start: int = 0) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, count, DEPTH) for heads in (HEADS, SHARED, SHARED))
    return query, key, value, torch.arange(start, start + count)


def programs() -> dict[str, bytes]:
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401

    count = torch.export.Dim("count", max=LENGTH - 1)
    shapes = ({2: count}, {2: count}, {2: count}, {0: count})
    return {
        "executorch": upstream(Attention(), shapes),
        "qreg": qreg.lower(Attention(), inputs(5), dynamic_shapes=shapes).program,
        "custom operator": upstream(Custom(), shapes),
    }


def upstream(model: nn.Module, shapes: Any) -> bytes:
    program = torch.export.export(model, inputs(5), dynamic_shapes=shapes)
    edge = to_edge_transform_and_lower(
        program,
        partitioner=[XnnpackPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    return bytes(edge.to_executorch().buffer)


def times(runs: dict[str, Callable[..., Any]], given: tuple[Tensor, ...]) -> dict[str, float]:
    """The least time of each program in milliseconds."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run(given)
            found[name].append(1000 * (time.perf_counter() - start))
    return {name: round(min(each), 3) for name, each in found.items()}


def main() -> None:
    backend = installed().backend("xnnpack").value
    assert backend.load is not None
    runs = {name: backend.load(each, threads=1) for name, each in programs().items()}
    cases = [(count, start) for start in (100, 400) for count in (1, 64)]
    print_table(
        [
            {"tokens": count, "position": start, **times(runs, inputs(count, start))}
            for count, start in cases
        ]
    )


if __name__ == "__main__":
    main()
