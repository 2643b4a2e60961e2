"""Keep operators in float that are cheap, and whose rounded values cost the outputs most.

In many networks a few values carry most of the noise: the output of a first convolution, or the
pooled channels of a squeeze-and-excitation block, whose errors reach everything downstream. Such a
value is not rounded if the operator that produces it and all that read it are in float. The noise
of each value at the outputs is estimated to first order, for all values at once (see
:mod:`qreg.analysis.sensitivity`). Values are taken by decreasing noise while the operators that
move to float have a small share of the multiply-accumulates of the model, as in Dong et al.,
HAWQ-V2: Hessian aware trace-weighted quantization of neural networks (2020), section 3.2, which
orders layers by an estimate of second order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from torch.fx import GraphModule, Node

from qreg.algorithms.simulation import Round, Simulation, rounding
from qreg.analysis.macs import Count, counts
from qreg.analysis.sensitivity import noise_ratios
from qreg.analysis.twins import Fresh, Pattern, Seen
from qreg.graph.prepared import observers
from qreg.graph.provenance import origin
from qreg.inputs.specs import cloned, flat
from qreg.plugins.types.algorithm import Calibration, Candidate, Change
from qreg.verification.noise import decibels, signal_and_noise

SAMPLES = 4  # batches that the noise is estimated on
REASON = "its rounded values cost the outputs most"


@frozen(eq=False)
class Value:
    """Values that one observer rounds, by the names of their nodes.

    ``operators`` are those that produce and read them, which are in float if nothing rounds them.
    """

    names: Pattern
    observer: Any
    operators: frozenset[str]


class Rounding(Fresh):
    """Run the float graph, and call ``seen`` with each value and what rounding adds to it."""

    def __init__(self, model: GraphModule, values: Sequence[Value], seen: Seen) -> None:
        super().__init__(model)
        self._values: dict[str, tuple[Pattern, Round]] = {}
        for value in values:
            known = value.names, rounding(value.observer)
            self._values.update(dict.fromkeys(value.names, known))
        self._seen = seen

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.name not in self._values or not isinstance(result, Tensor):
            return result
        names, rounded = self._values[n.name]
        with torch.no_grad():
            error = rounded(result) - result
        return self._seen(names, result, error)


def applies(candidate: Candidate) -> str | None:
    """Return why no operator is kept in float, or None if some may be."""
    if candidate.backend.simulated:
        return f"operators in float may not run on the hardware of {candidate.backend.name!r}"
    if not any(_values(candidate)):
        return "no activation has a static range"
    return None


def changes(
    candidate: Candidate, calibration: Calibration, *, budget: float, share: float, enough: float
) -> Iterator[Change]:
    """Yield the operators to keep in float; none if the outputs have an SQNR of ``enough`` dB.

    A value is taken if its noise is at least ``share`` of the noise of all, and if the operators
    that are then in float have at most ``budget`` of the multiply-accumulates.
    """
    if _sqnr(candidate, calibration) >= enough:
        return
    values = list(_values(candidate))
    run = partial(Rounding, candidate.reference, values)
    ratios = noise_ratios(candidate.reference, run, calibration.samples[:SAMPLES])
    in_float = _chosen(values, ratios, _costs(candidate), budget=budget, share=share)
    for node in candidate.reference.graph.nodes:
        if node.name in in_float:
            yield Change(node.name, in_float=REASON)


def _sqnr(candidate: Candidate, calibration: Calibration) -> float:
    """Return the lowest SQNR in dB of a floating-point output with all values rounded."""
    sums: dict[int, list[float]] = {}
    reference, simulation = Fresh(candidate.reference), Simulation(candidate.model)
    with torch.no_grad():
        for batch in calibration.samples:
            outputs = (flat(run.run(*cloned(batch))) for run in (reference, simulation))
            for number, (one, two) in enumerate(zip(*outputs, strict=True)):
                if isinstance(one, Tensor) and one.is_floating_point():
                    values, noise = signal_and_noise(one, two)
                    known = sums.setdefault(number, [0.0, 0.0])
                    known[0] += float(values.square().sum())
                    known[1] += float(noise.square().sum())
    return min((decibels(*each) for each in sums.values()), default=math.inf)


def _values(candidate: Candidate) -> Iterator[Value]:
    """Yield the activations with a static range, of operators that the user leaves quantized."""
    patterns = {
        each.node: each.pattern or (each.node,) for each in candidate.decisions if each.quantized
    }
    floats = {node.name: node for node in candidate.reference.graph.nodes}
    groups: dict[Any, dict[str, None]] = {}
    for call, observer in observers(candidate.model).items():
        (source,) = call.all_input_nodes
        if source.op != "get_attr" and not getattr(observer, "is_dynamic", False):
            groups.setdefault(observer, {})[source.name] = None
    for observer, names in groups.items():
        touched = {node for name in names for node in (floats[name], *floats[name].users)}
        operators = {each for node in touched for each in patterns.get(node.name, ())}
        if operators and operators <= floats.keys() and candidate.kept.isdisjoint(operators):
            yield Value(tuple(names), observer, frozenset(operators))


def _costs(candidate: Candidate) -> Mapping[str, float]:
    """Return the share of each operator in the multiply-accumulates; infinite where not known."""
    known = counts(candidate.reference)
    total = sum(each.macs for each in known.values()) or 1
    found: dict[str, float] = {}
    for node in candidate.reference.graph.nodes:
        count = known.get(origin(node) or "", Count())
        found[node.name] = math.inf if count.unknown else count.macs / total
    return found


def _chosen(
    values: Sequence[Value],
    ratios: Mapping[Pattern, float],
    costs: Mapping[str, float],
    *,
    budget: float,
    share: float,
) -> frozenset[str]:
    """Return the operators of the noisiest values that together fit into the budget."""
    noise = {each: 10 ** (-ratios.get(each.names, math.inf) / 10) for each in values}
    least = share * sum(noise.values())
    chosen: frozenset[str] = frozenset()
    for value in sorted(values, key=noise.__getitem__, reverse=True):
        more = chosen | value.operators
        if noise[value] and noise[value] >= least and sum(costs[each] for each in more) <= budget:
            chosen = more
    return chosen
