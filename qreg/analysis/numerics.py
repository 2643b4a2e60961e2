"""Noise of each operator: its output in the quantized graph against its output in float.

The float graph is the annotated graph without observers. Both graphs have the same operators, so
one pass through each, side by side, is enough.

torchao compares the same two graphs (``prepare_for_propagation_comparison``,
``extract_results_from_loggers`` and ``compare_results`` of ``torchao.quantization.pt2e``). Its
loggers keep the output of every operator for every sample, of both graphs, until the comparison.
This module streams: it holds the float outputs of one sample, drops each one as soon as the
quantized graph has computed the same operator, and keeps sums of squares. Memory does not grow with
the number of samples, and the SQNR is over all samples together instead of one per sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from torch.fx import GraphModule

from qreg.analysis.interpreter import Watching
from qreg.graph.mutation import keeping_state
from qreg.graph.provenance import row
from qreg.inputs.specs import cloned
from qreg.verification.noise import Tally


@frozen
class OperatorNoise:
    """How far an operator's output in the quantized graph is from float, over all samples.

    ``sqnr`` is in dB, as in :class:`~qreg.verification.metrics.OutputComparison`, and includes the
    noise of everything upstream. ``largest`` is the largest absolute difference of two elements.
    """

    node: str
    sqnr: float
    largest: float


def numerics(
    reference: GraphModule, converted: GraphModule, samples: Sequence[tuple[Any, ...]]
) -> list[OperatorNoise]:
    """Return the noise of every operator that both graphs have, in the order of the graph.

    Each sample takes one pass through each graph. Only one sample's float values are held at once.
    """
    tallies: dict[str, Tally] = {}
    wanted: dict[str, Tensor] = {}

    def compare(name: str, got: Tensor) -> None:
        expected = wanted.pop(name, None)
        if expected is not None and got.numel():
            tallies.setdefault(name, Tally()).add(expected, got)

    def keep(name: str, value: Tensor) -> None:
        wanted[name] = value.clone()

    with torch.no_grad(), keeping_state(reference), keeping_state(converted):
        for sample in samples:
            wanted.clear()
            Watching(reference, keep).run(*cloned(sample))
            Watching(converted, compare).run(*cloned(sample))
    # Of operators that share a name, the last one counts: the output of a recurrent layer.
    last = {row(name): tally for name, tally in tallies.items()}
    return [OperatorNoise(name, each.sqnr, each.largest) for name, each in last.items()]
