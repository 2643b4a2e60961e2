"""Choose the range of each activation by the error at the operators that read it.

No way to choose a range is best for all tensors: an outlier may carry all of the signal, or none.
So the ranges that the histogram of a value suggests (observed, by percentiles, MSE and entropy)
are compared by what they do to the outputs of the readers, which run with the rounded value and
with the float value, in one walk over a few batches. The error at a reader does not show how much
the model depends on it, so how many of these choices are taken, and whether one way for all values
is better, is decided by the outputs of the model on the same batches. So is whether the range of
each channel of a weight is narrowed to that with the least squared error, which pays for few bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from attrs import field, frozen
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from qreg.algorithms.changes import write
from qreg.algorithms.histograms import KEPT, Histogram
from qreg.algorithms.simulation import Round, Simulation, Walk, rounding
from qreg.graph.nodes import is_in_place
from qreg.graph.prepared import copied, observers
from qreg.graph.values import value_of
from qreg.inputs.specs import cloned
from qreg.observers.fixed import with_range
from qreg.observers.layout import by_qparams
from qreg.plugins.types.algorithm import Calibration, Candidate, Change

Range = tuple[Tensor, Tensor]

WALKED = 4  # batches, whose values are in memory at once
LEAST = math.log(10**0.05)  # gain of a proposal, 0.5 dB: less is chance
SMALLEST = 1e-10  # of the noise as a share of the signal: 100 dB


@frozen(eq=False)
class Choice:
    """The ranges for the values of an observer; the first, None, is the one that it has.

    ``values`` are the nodes whose values it observes, in the float graph, and ``name`` the first of
    them. ``errors`` are the sums over the readers of the noise in their output, as a share of the
    signal.
    """

    name: str
    values: frozenset[Node]
    ranges: Sequence[Range | None]
    rounds: Sequence[Round]
    errors: list[float] = field(factory=list)

    def best(self, gain: float) -> Range | None:
        """Return the best range, or None if it does not take ``gain`` of the error away."""
        if not self.errors or min(self.errors) > (1 - gain) * self.errors[0]:
            return None
        return self.ranges[self.errors.index(min(self.errors))]


def changes(
    candidate: Candidate, calibration: Calibration, *, gains: Sequence[float]
) -> list[Change]:
    """Return the ranges of the best proposal, or nothing if the model is better as it is.

    For each of ``gains`` there is a proposal with the best range of each observer that takes that
    share of the error away; and there is one for each way to choose ranges, for all observers. The
    ranges of weights are added to the best of these, if that is better again.
    """
    with torch.no_grad():
        choices = list(_choices(candidate))
        _measure(candidate.reference, calibration, choices)
        ways = range(1, max((len(each.ranges) for each in choices), default=0))
        proposals = [
            [],
            *(_proposal(choices, [each.best(gain) for each in choices]) for gain in gains),
            *(_proposal(choices, [each.ranges[way] for each in choices]) for way in ways),
        ]
        exact = _outputs(Interpreter(candidate.reference), calibration)
        losses = [_loss(candidate, calibration, exact, each) for each in proposals]
        best = losses.index(min(losses))
        if losses[best] >= losses[0] - LEAST:
            best = 0
        weights = list(_weight_ranges(candidate))
        together = [*proposals[best], *weights]
        if not weights or _loss(candidate, calibration, exact, together) >= losses[best] - LEAST:
            return proposals[best]
    return together


def _proposal(choices: Sequence[Choice], ranges: Sequence[Range | None]) -> list[Change]:
    pairs = zip(choices, ranges, strict=True)
    return [Change(choice.name, range=chosen) for choice, chosen in pairs if chosen is not None]


def _loss(
    candidate: Candidate,
    calibration: Calibration,
    exact: Sequence[Sequence[Tensor]],
    proposal: Sequence[Change],
) -> float:
    """Return the mean over batches and outputs of ``log(noise / signal)`` with a proposal."""
    model = write(copied(candidate.model), proposal, "prepared")
    found = _outputs(Simulation(model), calibration)
    logs = [
        math.log(_noise([one], [two]) + SMALLEST)
        for of_one, of_two in zip(exact, found, strict=True)
        for one, two in zip(of_one, of_two, strict=True)
    ]
    return sum(logs) / max(1, len(logs))


def _outputs(run: Interpreter, calibration: Calibration) -> list[list[Tensor]]:
    """Return the floating-point outputs for each batch."""
    outputs = (pytree.tree_leaves(run.run(*cloned(batch))) for batch in calibration.samples)
    return [
        [each.clone() for each in leaves if isinstance(each, Tensor) and each.is_floating_point()]
        for leaves in outputs
    ]


def _choices(candidate: Candidate) -> Iterator[Choice]:
    """Yield a choice for each observer with a histogram."""
    floats = {node.name: node for node in candidate.reference.graph.nodes}
    sources: dict[Any, list[str]] = {}
    for node, observer in observers(candidate.model).items():
        sources.setdefault(observer, []).append(node.all_input_nodes[0].name)
    for observer, names in sources.items():
        if _has_histogram(observer) and candidate.kept.isdisjoint(names):
            values = frozenset(floats[name] for name in names)
            found = _histogram(observer).ranges()
            ranges = [(torch.tensor(low), torch.tensor(high)) for low, high in found]
            rounds = [rounding(with_range(observer, *each)) for each in ranges]
            yield Choice(names[0], values, [None, *ranges], [rounding(observer), *rounds])


def _weight_ranges(candidate: Candidate) -> Iterator[Change]:
    """Yield the ranges of weights, those of all channels narrowed to the least squared error."""
    observer: Any
    for call, observer in observers(candidate.model).items():
        (source,) = call.all_input_nodes
        if source.op != "get_attr" or getattr(observer, "is_dynamic", False):
            continue
        weight = value_of(candidate.model, source)
        errors = torch.stack([_squared_error(observer, weight, share) for share in KEPT])
        best = torch.tensor(KEPT)[errors.argmin(0)]
        if (best < 1).any():
            low, high = (best * each for each in (observer.min_val, observer.max_val))
            yield Change(source.name, range=(low, high))


def _squared_error(observer: Any, weight: Tensor, share: float) -> Tensor:
    """Return the squared error of the values of each range, with a share of the ranges."""
    narrowed = with_range(observer, share * observer.min_val, share * observer.max_val)
    squares = (rounding(narrowed)(weight) - weight).double().square()
    return by_qparams(observer, squares).sum(-1)


def _has_histogram(observer: Any) -> bool:
    """Whether an observer has counted values that differ."""
    return hasattr(observer, "histogram") and bool(observer.min_val < observer.max_val)


def _histogram(observer: Any) -> Histogram:
    return Histogram(
        observer.histogram.double(),
        low=float(observer.min_val),
        high=float(observer.max_val),
        levels=int(observer.quant_max) - int(observer.quant_min) + 1,
        symmetric=observer.qscheme == torch.per_tensor_symmetric,
    )


def _measure(reference: GraphModule, calibration: Calibration, choices: Sequence[Choice]) -> None:
    """Add the errors of all choices, in one walk over a few samples."""
    of = {value: choice for choice in choices for value in choice.values}
    walk = Walk(Interpreter(reference), calibration.samples[:WALKED])
    for node, outputs in walk:
        for value in node.all_input_nodes:
            if value in of and node not in of[value].values:  # else it is rounded in the same way
                choice = of[value]
                errors = [_error(walk, node, outputs, value, each) for each in choice.rounds]
                before = choice.errors or [0.0] * len(errors)
                choice.errors[:] = map(sum, zip(before, errors, strict=True))


def _error(walk: Walk, node: Node, outputs: Sequence[Any], value: Node, rounded: Round) -> float:
    """Return the noise in the outputs of a reader as a share of their signal.

    An output of the model counts as a reader that returns the value, as does one without a tensor.
    """
    inputs = walk.values(value)
    others = [rounded(each) for each in inputs]
    if node.op == "output" or is_in_place(node) or not isinstance(outputs[0], Tensor):
        return _noise(inputs, others)
    return _noise(outputs, walk.again(node, {value: others}))


def _noise(references: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    pairs = list(zip(references, outputs, strict=True))
    signal = sum(float(one.double().square().sum()) for one, _ in pairs)
    noise = sum(float((one - two).double().square().sum()) for one, two in pairs)
    return noise / signal if signal else 0.0
