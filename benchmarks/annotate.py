"""How long annotation takes, against executorch's own quantizer, in one process and alternating.

``python benchmarks/annotate.py [--json FILE]`` prints ratios; these machines are noisy, so the
seconds mean little by themselves. Needs qreg-xnnpack and transformers.

- annotate: transform and annotate under one global config
- 10 names: the same with ten configs by module name
- 200 names: 200 configs by name on a network of 200 blocks, against qreg's own global case
- growth: qreg's time per node at 5,000 nodes against that at 500
- fresh process: importing and making a quantizer
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as upstream
from models import MODELS
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantizer import Quantizer

from qreg.utils.tables import print_table
from qreg_xnnpack import XNNPACKQuantizer, get_symmetric_quantization_config

warnings.simplefilter("ignore")

OURS = get_symmetric_quantization_config(is_per_channel=True)
THEIRS = upstream.get_symmetric_quantization_config(is_per_channel=True)
Make = Callable[[], Quantizer]


def exported(model: nn.Module, *inputs: Tensor) -> GraphModule:
    return torch.export.export(model.eval(), inputs).module()


def architectures() -> Iterator[tuple[str, GraphModule]]:
    for name in ("MobileNetV2", "ViT-tiny"):
        make, batch = MODELS[name]
        yield name, exported(make(), batch())


def blocks(count: int) -> nn.Sequential:
    """``count`` blocks of a convolution, a relu and a sum."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.relu(self.conv(x))

    return nn.Sequential(*(Block() for _ in range(count)))


def seconds(make: Make, graph_module: GraphModule) -> float:
    """Transform and annotate a copy of the graph, once."""
    graph_module, quantizer = copy.deepcopy(graph_module), make()
    started = time.perf_counter()
    quantizer.annotate(quantizer.transform_for_annotation(graph_module))
    return time.perf_counter() - started


def alternating(cases: list[tuple[Make, GraphModule]], rounds: int) -> list[float]:
    """The median seconds of each case, taken in turns after one warm-up."""
    times = [[seconds(*case) for case in cases] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def modules_with_weights(graph_module: GraphModule, count: int) -> list[str]:
    names = [str(n.target) for n in graph_module.graph.nodes if n.op == "get_attr"]
    return [n.removesuffix(".weight") for n in names if n.endswith(".weight")][:count]


def by_name(quantizer: Any, names: list[str], config: Any) -> Any:
    for name in names:
        quantizer.set_module_name(name, config)
    return quantizer


def ours() -> Any:
    return XNNPACKQuantizer(unknown_modules="warn")


def theirs() -> Any:
    return upstream.XNNPACKQuantizer()


def against_upstream(rounds: int) -> Iterator[dict[str, Any]]:
    for name, graph_module in architectures():
        names = modules_with_weights(graph_module, 10)
        pairs: list[tuple[str, Make, Make, float]] = [
            ("annotate", lambda: theirs().set_global(THEIRS), lambda: ours().set_global(OURS), 100),
            (
                "10 names",
                lambda names=names: by_name(theirs(), names, THEIRS),
                lambda names=names: by_name(ours(), names, OURS),
                1000,
            ),
        ]
        for what, their, our, goal in pairs:
            slow, fast = alternating([(their, graph_module), (our, graph_module)], rounds)
            yield row(f"{name}, {what}", slow, fast, slow / fast, f"at least {goal}")


def scaling(rounds: int) -> Iterator[dict[str, Any]]:
    graph_module = exported(blocks(200), torch.randn(1, 2, 4, 4))
    names = [str(number) for number in range(200)]
    everywhere, named = alternating(
        [
            (lambda: ours().set_global(OURS), graph_module),
            (lambda: by_name(ours(), names, OURS), graph_module),
        ],
        rounds * 5,
    )
    yield row("200 names against global", everywhere, named, named / everywhere, "at most 1.5")
    small, large = (exported(blocks(count), torch.randn(1, 2, 4, 4)) for count in (100, 1000))
    sizes = [len(each.graph.nodes) for each in (small, large)]
    times = alternating(
        [(lambda: ours().set_global(OURS), each) for each in (small, large)], rounds * 5
    )
    per_node = [spent / size for spent, size in zip(times, sizes, strict=True)]
    what = f"per node at {sizes[1]} nodes against {sizes[0]}"
    yield row(what, *per_node, per_node[1] / per_node[0], "at most 1.3")


def fresh_process(rounds: int) -> dict[str, Any]:
    package = "executorch.backends.xnnpack.quantizer.xnnpack_quantizer"
    their = f"from {package} import XNNPACKQuantizer; XNNPACKQuantizer()"
    our = "import qreg; qreg.get_quantizer('xnnpack')"
    times = [[spawned(their), spawned(our)] for _ in range(rounds)]
    slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
    return row("a quantizer in a fresh process", slow, fast, slow / fast, "at least 2")


def spawned(script: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    return time.perf_counter() - started


def row(what: str, reference: float, measured: float, ratio: float, goal: str) -> dict[str, Any]:
    return {
        "what": what,
        "reference_s": reference,
        "measured_s": measured,
        "ratio": ratio,
        "goal": goal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rows = [
        *against_upstream(arguments.rounds),
        *scaling(arguments.rounds),
        fresh_process(arguments.rounds),
    ]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))
    print_table([{key: _spelled(value) for key, value in each.items()} for each in rows])


def _spelled(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
