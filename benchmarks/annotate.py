"""How long annotation takes, against executorch's own quantizer, in one process and alternating.

``python benchmarks/annotate.py [--json FILE]`` prints ratios; these machines are noisy, so the
seconds mean little by themselves. Needs qreg-xnnpack and transformers.

- annotate: annotate a transformed graph under one global config; 10 names: with ten configs by
  module name
- transform: what each side does to the graph ahead of that, which in qreg folds constants and
  batch norms; torchao's ``prepare_pt2e`` fuses them later
- 200 names: 200 configs by name on a network of 200 blocks, against qreg's own global case
- growth: qreg's time per node to annotate 5,000 nodes against that for 500, in four networks; and
  its time per edge where every block reads all before, so that edges are quadratic in nodes
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
from dense import dense
from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as upstream
from models import MODELS
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantizer import Quantizer

from qreg.graph.nodes import tensor_at
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


class Block(nn.Module):
    """A convolution and a relu."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


class Residual(Block):
    """The same, added to its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Dense(nn.Module):
    """Blocks that each read the outputs of the ten before, concatenated."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(2 * min(each + 1, 10)) for each in range(count))

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for block in self.blocks:
            found.append(block(torch.cat(found[-10:], 1)))
        return found[-1]


class Attention(nn.Module):
    """Attention over the pixels, added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        query, value = self.query(x), self.value(x)
        return x + (query @ value.transpose(-2, -1)).softmax(-1) @ value


NETWORKS: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    "plain": (lambda n: nn.Sequential(*(Block() for _ in range(n))), 4),
    "residual": (lambda n: nn.Sequential(*(Residual() for _ in range(n))), 5),
    "dense": (Dense, 5),
    "attention": (lambda n: nn.Sequential(*(Attention() for _ in range(n))), 10),
}


def seconds(make: Make, graph_module: GraphModule) -> tuple[float, float]:
    """Transform a copy of the graph, and annotate it, once; return the seconds of each."""
    graph_module, quantizer = copy.deepcopy(graph_module), make()
    started = time.process_time()
    graph_module = quantizer.transform_for_annotation(graph_module)
    transformed = time.process_time()
    quantizer.annotate(graph_module)
    return transformed - started, time.process_time() - transformed


def alternating(cases: list[tuple[Make, GraphModule]], rounds: int) -> list[tuple[float, float]]:
    """The median seconds of each case, taken in turns after one warm-up."""
    times = [[seconds(*case) for case in cases] for _ in range(rounds + 1)][1:]
    return [
        (statistics.median(each[0] for each in column), statistics.median(e[1] for e in column))
        for column in zip(*times, strict=True)
    ]


def modules_with_weights(graph_module: GraphModule, count: int) -> list[str]:
    """Return the names of layers; norms are folded, and their names would be unknown in qreg."""
    names = [
        str(node.target)
        for node in graph_module.graph.nodes
        if node.op == "get_attr" and tensor_at(node).dim() > 1
    ]
    return [each.removesuffix(".weight") for each in names if each.endswith(".weight")][:count]


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
            ("annotate", lambda: theirs().set_global(THEIRS), lambda: ours().set_global(OURS), 150),
            (
                "10 names",
                lambda names=names: by_name(theirs(), names, THEIRS),
                lambda names=names: by_name(ours(), names, OURS),
                1500,
            ),
        ]
        for what, their, our, goal in pairs:
            slow, fast = alternating([(their, graph_module), (our, graph_module)], rounds)
            yield row(f"{name}, {what}", slow[1], fast[1], slow[1] / fast[1], f"at least {goal}")
            if what == "annotate":
                yield row(f"{name}, transform", slow[0], fast[0], slow[0] / fast[0], "")


def scaling(rounds: int) -> Iterator[dict[str, Any]]:
    graph_module = exported(NETWORKS["residual"][0](200), torch.randn(1, 2, 4, 4))
    names = [str(number) for number in range(200)]
    (_, everywhere), (_, named) = alternating(
        [
            (lambda: ours().set_global(OURS), graph_module),
            (lambda: by_name(ours(), names, OURS), graph_module),
        ],
        rounds,
    )
    yield row("200 names against global", everywhere, named, named / everywhere, "at most 1.5")
    for name, (network, nodes) in NETWORKS.items():
        yield growth(name, "node", networks_of(network, nodes), rounds)
    yield growth("all concatenated", "edge", [dense(100), dense(1000)], rounds)


def networks_of(network: Callable[[int], nn.Module], nodes: int) -> list[GraphModule]:
    """Export networks of about 500 and 5,000 nodes, of which a block has ``nodes``."""
    return [exported(network(count // nodes), torch.randn(1, 2, 4, 4)) for count in (500, 5000)]


def growth(name: str, unit: str, graphs: list[GraphModule], rounds: int) -> dict[str, Any]:
    """Time the annotation of two graphs, per node or per edge."""
    times = alternating([(lambda: ours().set_global(OURS), each) for each in graphs], rounds)
    nodes = [len(each.graph.nodes) for each in graphs]
    edges = [sum(len(node.all_input_nodes) for node in each.graph.nodes) for each in graphs]
    counts = nodes if unit == "node" else edges
    per = [spent / count for (_, spent), count in zip(times, counts, strict=True)]
    what = f"{name}, per {unit} at {nodes[1]} nodes against {nodes[0]}"
    return row(what, *per, per[1] / per[0], "at most 1.3")


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
