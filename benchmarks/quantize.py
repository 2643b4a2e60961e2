"""How long prepare, calibrate and convert take, against upstream's quantizer and observers.

``python benchmarks/quantize.py [--json FILE] [--models NAME ...]`` runs both in one process, batch
by batch in turns, and prints seconds, ratios, the peak of memory, and how far the quantization
parameters are apart. Trust the ratios. Needs qreg-xnnpack and transformers, and Linux for memory.

- calibrate: 8 batches through the prepared model; overhead: what that takes more than the float
  model does
- memory: by how much the process grew at most, each side in a separate process
- parameters: each quantize and dequantize of both converted models, by the tensor it works on
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from attrs import field, frozen
from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as upstream
from models import MODELS
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import Quantizer

from qreg.plugins.operator_names import operator_name
from qreg.utils.tables import print_table
from qreg_xnnpack import XNNPACKQuantizer, get_symmetric_quantization_config

BATCHES = 8
GOALS = {  # ratios to upstream
    ("MobileNetV2", "all"): "at least 8",
    ("MobileNetV2", "convert"): "at least 15",
    **{(name, "all"): "at least 2" for name in ("ResNet-18", "ViT-tiny", "BERT-small")},
    **{(name, "overhead"): "at least 2" for name in ("ResNet-18", "ViT-tiny", "BERT-small")},
}


def ours() -> Quantizer:
    config = get_symmetric_quantization_config(is_per_channel=True)
    return XNNPACKQuantizer().set_global(config)


def theirs() -> Quantizer:
    config = upstream.get_symmetric_quantization_config(is_per_channel=True)
    return upstream.XNNPACKQuantizer().set_global(config)


@frozen
class Side:
    """One of the two ways from an exported model to a converted one, and its seconds."""

    quantizer: Quantizer
    seconds: dict[str, float] = field(factory=dict)

    def timed(self, stage: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = work()
        elapsed = time.perf_counter() - started
        self.seconds[stage] = self.seconds.get(stage, 0.0) + elapsed
        return result


def run(model: nn.Module, batches: list[Tensor]) -> tuple[list[Side], list[GraphModule]]:
    """Upstream's side and qreg's, and the models that they converted."""
    program = torch.export.export(model, (batches[0],))
    sides, plain = [Side(theirs()), Side(ours())], Side(theirs())
    prepared = [
        side.timed("prepare", lambda q=side.quantizer: prepare_pt2e(program.module(), q))
        for side in sides
    ]
    float_model = program.module()
    with torch.no_grad():
        float_model(batches[0])
        for batch in batches:
            plain.timed("float", lambda b=batch: float_model(b))
            for side, each in zip(sides, prepared, strict=True):
                side.timed("calibrate", lambda e=each, b=batch: e(b))
    converted = [
        side.timed("convert", lambda e=each: convert_pt2e(e))
        for side, each in zip(sides, prepared, strict=True)
    ]
    for side in sides:
        side.seconds["all"] = sum(side.seconds.values())
        side.seconds["overhead"] = side.seconds["calibrate"] - plain.seconds["float"]
    return sides, converted


Parameters = dict[tuple[str, str, int], tuple[Tensor, Tensor]]


def parameters(converted: GraphModule) -> Parameters:
    """Scales and zero points by the operator that reads the quantized tensor, and where."""
    return {
        (user.name, operator_name(user.target), position): (scale.double(), zero.long())
        for node in converted.graph.nodes
        if node.op == "call_function" and ".dequantize_per_" in operator_name(node.target)
        for scale, zero in [_values(converted, node)]
        for user in node.users
        for position, source in enumerate(user.all_input_nodes)
        if source is node
    }


def _values(model: GraphModule, node: Node) -> tuple[Tensor, Tensor]:
    scale, zero = (
        getattr(model, str(each.target)) if isinstance(each, Node) else torch.tensor([each])
        for each in node.args[1:3]
    )
    return scale, zero


@frozen
class Comparison:
    """How the parameters of two converted models differ.

    ``different`` has those with scales more than a millionth or zero points apart; the others are
    those that one of the two does not quantize at all. Each is named by operator and place.
    """

    compared: int
    scale_difference: float
    different: list[str]
    upstream_only: list[str]
    qreg_only: list[str]


def compare(theirs: Parameters, ours: Parameters) -> Comparison:
    both = theirs.keys() & ours.keys()
    apart = {key: _apart(theirs[key][0], ours[key][0]) for key in both}
    different = {key for key in both if apart[key] > 1e-6 or not _same_zero(theirs[key], ours[key])}
    return Comparison(
        compared=len(both),
        scale_difference=max((apart[key] for key in both - different), default=0.0),
        different=_spelled(different),
        upstream_only=_spelled(theirs.keys() - ours.keys()),
        qreg_only=_spelled(ours.keys() - theirs.keys()),
    )


def _apart(one: Tensor, other: Tensor) -> float:
    return float(((one - other).abs() / one).max())


def _same_zero(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(one[1], other[1])


def _spelled(keys: Iterable[tuple[str, str, int]]) -> list[str]:
    return sorted(f"{operator} {name}, input {place}" for name, operator, place in keys)


def peak(name: str, make_quantizer: Callable[[], Quantizer], answer: Any) -> None:
    """Sends how many MiB this process, which does nothing else, grew by at most."""
    warnings.simplefilter("ignore")
    make, batch = MODELS[name]
    torch.manual_seed(0)
    program = torch.export.export(make(), (batch(),))
    before = _resident()
    prepared = prepare_pt2e(program.module(), make_quantizer())
    with torch.no_grad():
        for _ in range(BATCHES):
            prepared(batch())
    convert_pt2e(prepared)
    answer.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before)


def _resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def peaks(name: str) -> tuple[float, float]:
    """Upstream's peak and qreg's, in MiB."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torchao.quantization.pt2e", upstream.__name__])
    found = []
    for side in (theirs, ours):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=peak, args=(name, side, sender))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"measuring the memory of {name} failed: {process.exitcode}")
        found.append(receiver.recv())
    return found[0], found[1]


def measure(name: str) -> Iterator[dict[str, Any]]:
    make, batch = MODELS[name]
    torch.manual_seed(0)
    (slow, fast), converted = run(make(), [batch() for _ in range(BATCHES)])
    for stage in ("prepare", "calibrate", "overhead", "convert", "all"):
        yield row(name, f"{stage}, s", stage, slow.seconds[stage], fast.seconds[stage])
    yield row(name, "memory, MiB", "memory", *peaks(name))
    found = compare(*map(parameters, converted))
    equal = found.compared - len(found.different)
    yield {
        "model": name,
        "what": f"{equal} parameters equal within {found.scale_difference:.1g}"
        f"{_counted(', different', found.different)}"
        f"{_counted(', only upstream', found.upstream_only)}"
        f"{_counted(', only qreg', found.qreg_only)}",
        "different": found.different,
        "upstream_only": found.upstream_only,
        "qreg_only": found.qreg_only,
    }


def _counted(what: str, places: list[str]) -> str:
    operators = Counter(place.split()[0] for place in places)
    return f"{what}: {', '.join(f'{n} {op}' for op, n in operators.items())}" if places else ""


def row(model: str, what: str, stage: str, slow: float, fast: float) -> dict[str, Any]:
    goal = GOALS.get((model, stage), "at least 1" if stage == "memory" else "")
    ratio = slow / fast
    return {"model": model, "what": what, "upstream": slow, "qreg": fast, "ratio": ratio} | (
        {"goal": goal} if goal else {}
    )


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    arguments = parser.parse_args()
    rows = [each for name in arguments.models for each in measure(name)]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))
    columns = ("model", "what", "upstream", "qreg", "ratio", "goal")
    print_table([{name: _short(each.get(name, "")) for name in columns} for each in rows])


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
