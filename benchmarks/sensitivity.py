"""The estimate of each pattern's sensitivity against brute force, on models with real weights.

``OMP_NUM_THREADS=1 python benchmarks/sensitivity.py [--backend xnnpack] [--models NAME ...]
[--algorithms NAMES] [--cache FOLDER]`` prints one row for each model: Spearman's rank correlation
between the two, the median of their difference in dB, and the seconds that each took. Brute force
runs the float model once for each pattern, with the pattern in its place as the converted model has
it. Patterns without noise of their own, which share the qparams of their input, are left out.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from real import ZOO, make
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.fx.node import map_arg

import qreg
from qreg import Result
from qreg.analysis.sensitivity import sensitivity
from qreg.graph.provenance import numbered, row
from qreg.graph.values import value_of
from qreg.inputs.specs import cloned, flat
from qreg.utils.tables import print_table

Pattern = tuple[str, ...]
DEFAULT = ["efficientnet", "ocr_recogniser", "ocr_orientation", "minilm", "crepe", "char_gpt"]
DEQUANTIZE, QUANTIZE = "quantized_decomposed.dequantize", "quantized_decomposed.quantize"


class Alone(Interpreter):
    """Run the float graph with the operators of one pattern as the converted graph has them."""

    def __init__(self, result: Result, pattern: Pattern) -> None:
        super().__init__(result.reference)
        self._converted = result.converted
        self._pattern, self._names = pattern, numbered(result.reference.graph)
        self._nodes = {name: node for node, name in numbered(result.converted.graph).items()}

    def run_node(self, n: Node) -> Any:
        node = self._nodes.get(self._names.get(n, ""))
        if node is None or row(self._names[n]) not in self._pattern:
            return super().run_node(n)
        arguments, named = self.fetch_args_kwargs_from_env(n)
        given = [*arguments, *[None] * (len(node.args) - len(arguments))]
        inputs = [self._input(*pair) for pair in zip(node.args, given, strict=True)]
        output = node.target(*inputs, **named)  # type: ignore[operator]
        annotation = n.meta.get("quantization_annotation")
        if annotation is not None and annotation.output_qspec is not None:
            for user in node.users:
                if str(user.target).startswith(QUANTIZE):
                    return self._computed(next(iter(user.users)), {node: output})
        return output

    def _input(self, argument: Any, value: Any) -> Any:
        """Return an input, rounded by the last pair of operators ahead of the consumer."""
        if isinstance(argument, (list, tuple)):
            return [self._input(*pair) for pair in zip(argument, value, strict=True)]
        if not isinstance(argument, Node):
            return argument
        if argument.op == "get_attr":
            return self._computed(argument, {})
        if not str(argument.target).startswith(DEQUANTIZE):
            return value.clone() if isinstance(value, Tensor) else value
        quantized = argument.args[0]
        assert isinstance(quantized, Node)
        if quantized.op == "get_attr":
            return self._computed(argument, {})
        source = quantized.args[0]
        assert isinstance(source, Node)
        constant = {} if source.op == "get_attr" else {source: value}
        return self._computed(argument, constant)

    def _computed(self, node: Node, known: dict[Node, Any]) -> Any:
        if node in known:
            return known[node]
        if node.op == "get_attr":
            return value_of(self._converted, node)
        arguments, named = map_arg(
            (node.args, node.kwargs), lambda each: self._computed(each, known)
        )
        return node.target(*arguments, **named)  # type: ignore[operator]


def brute_force(result: Result) -> dict[Pattern, float]:
    """Return the SQNR of the outputs in dB for each pattern that is quantized alone."""
    patterns = {each.pattern or (each.node,) for each in result.decisions if each.quantized}
    with torch.no_grad():
        wanted = [_outputs(Interpreter(result.reference), sample) for sample in result.samples]
        return {each: _sqnr(result, each, wanted) for each in sorted(patterns)}


def _sqnr(result: Result, pattern: Pattern, wanted: list[list[Tensor]]) -> float:
    signal, noise = [0.0] * len(wanted[0]), [0.0] * len(wanted[0])
    for sample, outputs in zip(result.samples, wanted, strict=True):
        got = _outputs(Alone(result, pattern), sample)
        for number, (one, other) in enumerate(zip(outputs, got, strict=True)):
            signal[number] += float(one.square().sum())
            noise[number] += float((one - other).square().sum())
    shares = [each / whole for each, whole in zip(noise, signal, strict=True) if whole]
    mean = statistics.fmean(shares)
    return -10 * math.log10(mean) if mean else math.inf


def _outputs(run: Interpreter, sample: Any) -> list[Tensor]:
    outputs = flat(run.run(*cloned(sample)))
    return [each.double() for each in outputs if torch.is_floating_point(each)]


def compared(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return the row of a model."""
    subject = make(name, given.cache)
    result = qreg.quantize(
        subject.model,
        subject.example,
        backend=given.backend,
        calibration=subject.calibration,
        algorithms=given.algorithms.split(",") if given.algorithms else [],
        verify=False,
        progress=False,
    )
    started = time.perf_counter()
    graphs = result.reference, result.converted
    estimated = sensitivity(*graphs, result.decisions, result.samples)
    between = time.perf_counter()
    measured = brute_force(result)
    ended = time.perf_counter()
    pairs = list(_pairs({each.pattern: each.sqnr for each in estimated}, measured))
    return {
        "model": name,
        "patterns": len(pairs),
        "Spearman": f"{spearman(pairs):.3f}",
        "median difference": f"{statistics.median(abs(a - b) for a, b in pairs):.1f} dB",
        "seconds": f"{between - started:.1f}",
        "brute force": f"{ended - between:.1f}",
    }


def _pairs(
    estimated: dict[Pattern, float | None], measured: dict[Pattern, float]
) -> Iterator[tuple[float, float]]:
    for pattern, value in estimated.items():
        if value is not None and math.isfinite(value) and math.isfinite(measured[pattern]):
            yield value, measured[pattern]


def spearman(pairs: list[tuple[float, float]]) -> float:
    """Return Spearman's rank correlation; values without ties."""
    ranks = [torch.tensor(each).argsort().argsort().double() for each in zip(*pairs, strict=True)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # of torch's exporter and of transformers
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="xnnpack")
    parser.add_argument("--models", nargs="+", default=DEFAULT, choices=list(ZOO))
    parser.add_argument("--algorithms", default="", help="names with commas between")
    parser.add_argument("--cache", type=Path, help="a folder that keeps models trained here")
    given = parser.parse_args()
    print_table([compared(name, given) for name in given.models])


if __name__ == "__main__":
    main()
