"""Score a model with rounded values against its float graph, on batches that are held back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import torch
from attrs import define, field, frozen
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from qreg.algorithms.simulation import Simulation
from qreg.analysis.interpreter import Watching
from qreg.graph.mutation import keeping_state
from qreg.graph.nodes import called
from qreg.graph.prepared import constants_late, copied
from qreg.graph.provenance import numbered
from qreg.inputs.specs import cloned, flat
from qreg.verification.noise import decibels, signal_and_noise

Batch = tuple[Any, ...]
Ratios = dict[str, list[float]]  # of each value, the sums of its signal and of its noise

SQUASHES = frozenset({"aten.softmax.int", "aten._softmax.default", "aten.sigmoid.default"})

GAIN = 0.5  # dB by which the outputs must improve for a change to be kept
ERRORS = 2.0  # standard errors by which the gains in single batches must be above 0 on average
FEWEST = 4  # batches from which a standard error is estimated
LOSS = 0.3  # dB by which a single output, or the output of an operator, may become worse
CHANGED = 0.02  # of the rows, by which those of another class than in float may grow
HIGHEST = 100.0  # dB: a better output does not count more
LOWEST = -20.0  # dB: the output is all noise


@frozen
class Score:
    """The SQNR to float in dB, of each floating-point output and of each operator by its name.

    Values are between -20 and 100 dB. The output of a softmax or sigmoid is scored at its input:
    where probabilities are near 0 and 1, their SQNR depends on the few that are not. ``batches``
    has the mean over the outputs for each batch. ``rows`` is the number of rows of all outputs of
    shape (rows, classes), and ``changed`` the number of those in which the largest value is of
    another class than in float.
    """

    outputs: tuple[float, ...]
    operators: Mapping[str, float] = field(factory=dict, repr=False)
    changed: int = 0
    rows: int = 0
    batches: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """The mean over the outputs; 100 for a model without a floating-point output."""
        return _mean(self.outputs)

    def gains(self, other: Score) -> bool:
        """Whether the mean is higher than in another score, if only by chance."""
        return self.mean >= other.mean + GAIN

    def improves(self, other: Score) -> bool:
        """Whether the mean is higher than in another score, and no output much worse.

        The gain must be significant over the batches, so that a few of them do not decide. A few
        rows may change their class by chance. Where noise is as strong as the signal, a higher
        SQNR may mean that an output has only become smaller: then more classes are wrong.
        """
        pairs = zip(self.outputs, other.outputs, strict=True)
        gains = [one - two for one, two in zip(self.batches, other.batches, strict=True)]
        return (
            self.gains(other)
            and all(one >= two - LOSS for one, two in pairs)
            and _is_significant(gains)
            and self.changed - other.changed <= max(1, CHANGED * self.rows)
        )

    def worsens(self, other: Score, operator: str) -> bool:
        """Whether the output of an operator is worse than in another score."""
        found, before = self.operators.get(operator), other.operators.get(operator)
        return found is not None and before is not None and found < before - LOSS


def _is_significant(gains: Sequence[float]) -> bool:
    """Whether gains in dB, one for each batch, are above 0 by more than chance.

    All are above 0, or their mean is by ``ERRORS`` times its standard error, as in a paired t-test.
    """
    if min(gains, default=1.0) > 0:
        return True
    if len(gains) < FEWEST:
        return False
    return mean(gains) >= ERRORS * stdev(gains) / math.sqrt(len(gains))


def scored(reference: GraphModule, model: GraphModule, batches: Sequence[Batch]) -> Score:
    """Score a calibrated or converted model against its float graph; memory is that of one batch.

    Observers of a prepared model round what passes through them. Each batch finds the buffers that
    the model writes to as they are before the first.
    """
    model = constants_late(copied(model))
    operators, total, here = Ratios(), Ratios(), Ratios()
    means: list[float] = []
    classes, squashed = _Classes(), _squashed(reference)
    wanted: dict[str, Tensor] = {}
    names = numbered(model.graph)

    def compare(node: Node, value: Any) -> None:
        name = names.get(node, "")
        expected = wanted.pop(name, None)
        if expected is not None and isinstance(value, Tensor):
            _add(operators, name, expected, value)
            if name in squashed.values():
                _add(here, name, expected, value)

    watching = Watching(reference, lambda name, value: wanted.update({name: value.clone()}))
    simulation = Simulation(model, compare)
    with torch.no_grad():
        for batch in batches:
            wanted.clear()
            here.clear()
            with keeping_state(reference):
                expected = _copies(watching.run(*cloned(batch)))
            with keeping_state(model):
                got = _copies(simulation.run(*cloned(batch)))
            for number, (one, two) in enumerate(zip(expected, got, strict=True)):
                classes.add(one, two)
                if number not in squashed:
                    _add(here, str(number), one, two)
            means.append(_mean([_ratio(each) for each in here.values()]))
            _join(total, here)
    return Score(
        outputs=tuple(map(_ratio, total.values())),
        operators={name: _ratio(sums) for name, sums in operators.items()},
        changed=classes.changed,
        rows=classes.rows,
        batches=tuple(means),
    )


def _squashed(reference: GraphModule) -> dict[int, str]:
    """Return the operator upstream of a softmax or sigmoid, by the number of the output."""
    names = numbered(reference.graph)
    (output,) = (node for node in reference.graph.nodes if node.op == "output")
    produced = [each for each in pytree.tree_leaves(output.args[0]) if _is_floating(each)]
    return {
        number: names[node.all_input_nodes[0]]
        for number, node in enumerate(produced)
        if called(node) in SQUASHES and node.all_input_nodes[0] in names
    }


def _is_floating(node: object) -> bool:
    value = node.meta.get("val") if isinstance(node, Node) else None
    return isinstance(value, Tensor) and value.is_floating_point()


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


def _join(total: Ratios, other: Ratios) -> None:
    for name, sums in other.items():
        known = total.setdefault(name, [0.0, 0.0])
        known[:] = [one + two for one, two in zip(known, sums, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else HIGHEST


def _ratio(sums: Sequence[float]) -> float:
    sqnr = decibels(*sums)
    return LOWEST if math.isnan(sqnr) else min(max(sqnr, LOWEST), HIGHEST)
