"""What is held in memory while a model is quantized, counted in bytes of live tensors.

What a process has resident depends on its allocator.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from attrs import define, field
from torch import Tensor, nn
from torch.fx import Interpreter, Node

import qreg
from qreg.utils.progress import Stages
from qreg.verification.drops import largest_drops

WIDTH, LAYERS = 256, 6
FILE = LAYERS * WIDTH * WIDTH * 4  # bytes of the weights in float32
LEAST = WIDTH * WIDTH  # bytes of what is counted: one weight in int8


def live() -> Counter[str]:
    """Return the bytes of all storages by dtype, as shares of ``FILE``."""
    storages: dict[int, tuple[str, int]] = {}
    for each in gc.get_objects():
        if type(each) in (Tensor, nn.Parameter) and each.device.type == "cpu":
            storage = each.untyped_storage()
            if storage.nbytes() >= LEAST:
                storages[storage.data_ptr()] = str(each.dtype), storage.nbytes()
    found: Counter[str] = Counter()
    for dtype, count in storages.values():
        found[dtype] += count / FILE  # type: ignore[assignment]
    return found


@define
class Held:
    """What is live more than before, after each stage, and at most while the program is judged."""

    before: Counter[str] = field(factory=live)
    after: dict[str, Counter[str]] = field(factory=dict)
    judging: float = 0.0
    delegated: set[int] = field(factory=set)  # addresses of the weights that a delegate is given
    converted: set[int] = field(factory=set)

    def more(self, dtype: str) -> float:
        return live()[dtype] - self.before[dtype]


def addresses(tensors: Any) -> set[int]:
    return {each.data_ptr() for each in tensors if each.dtype == torch.int8}


def measured() -> Held:
    """Quantize a chain of linears, in a process that holds nothing else."""
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))).eval()
    found = Held()
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, found)
        batches = [(torch.randn(2, WIDTH),) for _ in range(2)]
        config = "int8_dynamic_per_channel"
        result = qreg.quantize(model, batches[0], calibration=batches, config=config)
        graphs = result.reference, result.converted
        largest_drops(*graphs, result.samples, result.decisions, min_sqnr=99.0, slices=False)
    found.converted = addresses(result.converted.buffers())
    return found


def watch(patch: pytest.MonkeyPatch, found: Held) -> None:
    from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend

    stage, run_node = Stages.stage, Interpreter.run_node
    preprocess = XnnpackBackend.preprocess

    @contextmanager
    def watched(itself: Any, name: str, *total: Any) -> Iterator[Any]:
        with stage(itself, name, *total) as step:
            yield step
        gc.collect()
        found.after[name] = live() - found.before

    def evaluated(itself: Any, node: Node) -> Any:
        result = run_node(itself, node)
        judges = type(itself).__module__.startswith("qreg.")  # not what lowers it
        if judges and "dequantize_per_channel" in str(node.target):
            found.judging = max(found.judging, found.more("torch.float32"))
        return result

    def preprocessed(program: Any, *given: Any) -> Any:
        found.delegated |= addresses(program.state_dict.values())
        return preprocess(program, *given)

    patch.setattr(Stages, "stage", watched)
    patch.setattr(Interpreter, "run_node", evaluated)
    patch.setattr(XnnpackBackend, "preprocess", staticmethod(preprocessed))
