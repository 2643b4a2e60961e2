"""How fast programs run in the ExecuTorch runtime: float, upstream's int8 and qreg's int8.

``python benchmarks/latency.py [--json FILE] [--models NAME ...]`` lowers each model three times and
runs the programs in turns in one process, in an order that rotates. It prints the median of the
runs, and the limit below which the fastest tenth stays: if their ratios differ, other processes got
in between, and the latter is to be trusted. Then ``--threads 1`` keeps the runtime's threads from
waiting for each other. Needs qreg-xnnpack and transformers.

- float: the model as it is, lowered with upstream's partitioner
- upstream: executorch's own quantizer and partitioner
- qreg: ``qreg.quantize``
- delegates: the calls of each of the three; the JSON also has what runs outside of them

Both int8 programs are static and per channel, calibrated with the same batches. The batch norms
first get the statistics of such a batch, since with random weights activations would fade away.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as upstream
from executorch.exir import to_edge_transform_and_lower
from executorch.extension.pybindings import portable_lib
from models import MODELS
from torch import Tensor, nn
from torch.export import ExportedProgram
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

import qreg
from qreg.plugins.registry import installed
from qreg.utils.tables import print_table
from qreg.verification.latency import latency

BATCHES = 4
DELEGATE_CALL = "executorch_call_delegate"
WARM_UP = 10
GOAL = "at most 1.03"  # qreg/upstream


@frozen
class Program:
    """A lowered program, how many delegates it calls, and the operators that it calls besides."""

    code: bytes
    delegates: int
    outside: Counter[str]


def settled(model: nn.Module, batch: Tensor) -> nn.Module:
    """The model with batch norms that keep the activations of a batch at unit scale."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = 1.0
    with torch.no_grad():
        model(batch)
    return model.eval()


def lowered(program: ExportedProgram) -> Program:
    """As executorch's documentation does it."""
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    nodes = edge.exported_program().graph.nodes
    calls = Counter(node.target.__name__ for node in nodes if node.op == "call_function")
    delegates = calls.pop(DELEGATE_CALL)
    del calls["getitem"]
    return Program(bytes(edge.to_executorch().buffer), delegates, calls)


def theirs(model: nn.Module, batches: list[Tensor]) -> Program:
    config = upstream.get_symmetric_quantization_config(is_per_channel=True)
    quantizer = upstream.XNNPACKQuantizer().set_global(config)
    prepared = prepare_pt2e(torch.export.export(model, (batches[0],)).module(), quantizer)
    with torch.no_grad():
        for batch in batches:
            prepared(batch)
    return lowered(torch.export.export(convert_pt2e(prepared), (batches[0],)))


def ours(model: nn.Module, batches: list[Tensor]) -> Program:
    """Not verified: what random weights give is close to noise in any int8 program."""
    calibration = [(batch,) for batch in batches]
    result = qreg.quantize(
        model, calibration[0], calibration=calibration, verify=False, progress=False
    )
    made = result.lowered
    return Program(made.program, made.delegates, Counter(made.outside))


def programs(name: str) -> tuple[dict[str, Program], Tensor]:
    """The three programs of a model, and an input for them."""
    make, batch = MODELS[name]
    torch.manual_seed(0)
    batches = [batch() for _ in range(BATCHES)]
    model = settled(make(), batches[0])
    plain = lowered(torch.export.export(model, (batches[0],)))
    sides = {"float": plain, "upstream": theirs(model, batches), "qreg": ours(model, batches)}
    return sides, batches[0]


def alternating(works: Sequence[Callable[[], Any]], rounds: int) -> list[list[float]]:
    """The milliseconds of each after a warm-up; every round, another one goes first."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(WARM_UP + rounds):
        for place in range(len(works)):
            which = (turn + place) % len(works)
            started = time.perf_counter()
            works[which]()
            times[which].append((time.perf_counter() - started) * 1000)
    return [each[WARM_UP:] for each in times]


def measure(name: str, rounds: int) -> Iterator[dict[str, Any]]:
    sides, inputs = programs(name)
    load = installed().backend("xnnpack").value.load
    works = [partial(load(program.code), [inputs]) for program in sides.values()]
    times = alternating(works, rounds)
    delegates = " ".join(str(program.delegates) for program in sides.values())
    for runs, of_runs in (("median", statistics.median), ("fastest tenth", latency)):
        spent: dict[str, float] = dict(zip(sides, map(of_runs, times), strict=True))
        yield {"model": name, "runs": runs, **_row(spent), "delegates": delegates} | {
            "outside": {side: dict(program.outside) for side, program in sides.items()}
        }


def _row(spent: dict[str, float]) -> dict[str, Any]:
    return {
        **{f"{side}, ms": milliseconds for side, milliseconds in spent.items()},
        "upstream/float": spent["upstream"] / spent["float"],
        "qreg/float": spent["qreg"] / spent["float"],
        "qreg/upstream": spent["qreg"] / spent["upstream"],
        "goal": GOAL,
    }


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, help="of the runtime; by default it decides")
    arguments = parser.parse_args()
    if arguments.threads:
        portable_lib._unsafe_reset_threadpool(arguments.threads)
    rows = [each for name in arguments.models for each in measure(name, arguments.rounds)]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))
    columns = [name for name in rows[0] if name != "outside"]
    print_table([{name: _spelled(each[name]) for name in columns} for each in rows])


def _spelled(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
