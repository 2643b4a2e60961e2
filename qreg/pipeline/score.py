"""Score a model with rounded values against its float graph, on batches that are held back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import define, field, frozen
from torch import Tensor
from torch.fx import GraphModule, Node

from qreg.algorithms.simulation import Simulation
from qreg.analysis.interpreter import Watching
from qreg.graph.provenance import numbered
from qreg.inputs.specs import cloned, flat
from qreg.verification.noise import decibels, signal_and_noise

Batch = tuple[Any, ...]
Ratios = dict[str, list[float]]  # of each value, the sums of its signal and of its noise

GAIN = 0.1  # dB by which the outputs must improve for a change to be kept
LOSS = 0.3  # dB by which a single output, or the output of an operator, may become worse
CHANGED = 0.02  # of the rows, by which those of another class than in float may grow
HIGHEST = 100.0  # dB: a better output does not count more
LOWEST = -20.0  # dB: the output is all noise


@frozen
class Score:
    """The SQNR to float in dB, of each floating-point output and of each operator by its name.

    Values are between -20 and 100 dB. ``changed`` is the number of rows, of all outputs of shape
    (rows, classes), in which the largest value is of another class than in float; ``rows`` is the
    number of all.
    """

    outputs: tuple[float, ...]
    operators: Mapping[str, float] = field(factory=dict, repr=False)
    changed: int = 0
    rows: int = 0

    @property
    def mean(self) -> float:
        """The mean over the outputs; 100 for a model without a floating-point output."""
        return sum(self.outputs) / len(self.outputs) if self.outputs else HIGHEST

    def improves(self, other: Score) -> bool:
        """Whether the mean is higher than in another score, and no output much worse.

        A few rows may change their class by chance. Where noise is as strong as the signal, a
        higher SQNR may mean that an output has only become smaller: then more classes are wrong.
        """
        pairs = zip(self.outputs, other.outputs, strict=True)
        worse = self.changed - other.changed > max(1, CHANGED * self.rows)
        higher = self.mean >= other.mean + GAIN and all(one >= two - LOSS for one, two in pairs)
        return higher and not worse

    def worsens(self, other: Score, operator: str) -> bool:
        """Whether the output of an operator is worse than in another score."""
        found, before = self.operators.get(operator), other.operators.get(operator)
        return found is not None and before is not None and found < before - LOSS


def scored(reference: GraphModule, model: GraphModule, batches: Sequence[Batch]) -> Score:
    """Score a calibrated or converted model against its float graph; memory is that of one batch.

    Observers of a prepared model round what passes through them.
    """
    outputs: Ratios = {}
    classes = _Classes()
    operators: Ratios = {}
    with torch.no_grad():
        wanted: dict[str, Tensor] = {}
        watching = Watching(reference, lambda name, value: wanted.update({name: value.clone()}))
        names = numbered(model.graph)

        def compare(node: Node, value: Any) -> None:
            expected = wanted.pop(names.get(node, ""), None)
            if expected is not None and isinstance(value, Tensor):
                _add(operators, names[node], expected, value)

        simulation = Simulation(model, compare)
        for batch in batches:
            wanted.clear()
            expected = _copies(watching.run(*cloned(batch)))
            got = _copies(simulation.run(*cloned(batch)))
            for number, (one, two) in enumerate(zip(expected, got, strict=True)):
                _add(outputs, str(number), one, two)
                classes.add(one, two)
    ratios = {name: _ratio(sums) for name, sums in operators.items()}
    return Score(tuple(map(_ratio, outputs.values())), ratios, classes.changed, classes.rows)


@define
class _Classes:
    """Count the rows of outputs whose largest value is of another class than in float."""

    changed: int = 0
    rows: int = 0

    def add(self, reference: Tensor, output: Tensor) -> None:
        if reference.dim() == 2 and reference.shape[1] > 1 and reference.shape == output.shape:
            self.changed += int((reference.argmax(1) != output.argmax(1)).sum())
            self.rows += len(reference)


def _copies(outputs: Any) -> list[Tensor]:
    """Return copies of the floating-point outputs, which may be views of inputs."""
    return [
        value.clone()
        for value in flat(outputs)
        if isinstance(value, Tensor) and value.is_floating_point()
    ]


def _add(sums: Ratios, name: str, reference: Tensor, output: Tensor) -> None:
    if reference.shape != output.shape:
        return
    values, noise = signal_and_noise(reference, output)
    known = sums.setdefault(name, [0.0, 0.0])
    known[0] += float(values.square().sum())
    known[1] += float(noise.square().sum())


def _ratio(sums: Sequence[float]) -> float:
    sqnr = decibels(*sums)
    return LOWEST if math.isnan(sqnr) else min(max(sqnr, LOWEST), HIGHEST)
