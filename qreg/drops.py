"""Where a quantized model loses its quality: the operators that add most noise of their own.

The SQNR of an operator's output has the noise of everything before it in it. What tells where noise
comes from is how much is added: by computing (from the noise of the inputs to that of the output)
and by rounding (from the output to what is read of it). A rounding belongs to the operator whose
output it is if that is quantized, else to those that read it quantized.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from qreg.inputs import cloned
from qreg.mutation import keeping_state
from qreg.noise import Tally
from qreg.origins import origin
from qreg.remedies import anchor_of, scope_of

if TYPE_CHECKING:
    from qreg.model import Decision

DEQUANTIZE = "quantized_decomposed.dequantize_per_"
SHOWN = 3
LEAST = -200.0  # dB, for what is all noise
SHARE = 0.1  # of the most that any operator adds: those that add less are not named


@frozen
class Drop:
    """A quantized operator at which the SQNR drops, from ``before`` to ``after`` in dB.

    ``keep`` is the call of a quantizer that keeps it in float.
    """

    node: str
    operator: str
    module: str
    before: float
    after: float
    keep: str


def largest_drops(
    reference: GraphModule,
    converted: GraphModule,
    samples: Sequence[tuple[Any, ...]],
    decisions: Sequence[Decision],
    *,
    slices: bool,
) -> tuple[Drop, ...]:
    """The quantized operators that add most noise, at most three, the first adding most.

    ``reference`` is the float graph with the operators that were decided on. ``slices`` measures
    the worst slice of each tensor instead of the whole. Takes one pass of each graph per sample.
    """
    measure = _share_of_worst_slice if slices else _share
    noise = _Noise(*_tallied(reference, converted, samples), measure)
    quantized = {each.node: each for each in decisions if each.quantized}
    worst: dict[str, _Step] = {}
    for name, step in _steps(reference, noise, quantized):
        anchor = anchor_of(quantized[name])
        if anchor in quantized and step.added > worst.get(anchor, NOTHING).added:
            worst[anchor] = step
    ordered = sorted(worst.items(), key=lambda pair: -pair[1].added)
    least = max((SHARE * step.added for step in worst.values()), default=0.0)
    return tuple(
        Drop(
            node=name,
            operator=quantized[name].operator,
            module=quantized[name].module,
            before=_decibels(step.before),
            after=_decibels(step.after),
            keep=scope_of(quantized[name], decisions),
        )
        for name, step in ordered[:SHOWN]
        if step.added >= least
    )


@frozen
class _Step:
    """The noise before and after something is computed or rounded, as shares of the signal."""

    before: float
    after: float

    @property
    def added(self) -> float:
        return self.after - self.before


NOTHING = _Step(0.0, 0.0)


@frozen
class _Noise:
    """The noise of each value as it is given, and of those that are rounded as they are read."""

    given: Mapping[str, Tally]
    read: Mapping[str, Tally]
    measure: Callable[[Tally], float]

    def rounded(self, name: str) -> float | None:
        return self.measure(self.read[name]) if name in self.read else None

    def computed(self, name: str) -> float | None:
        return self.measure(self.given[name]) if name in self.given else None


def _steps(
    reference: GraphModule, noise: _Noise, quantized: Mapping[str, Decision]
) -> Iterator[tuple[str, _Step]]:
    """Each step at which noise is added, with the name of the quantized operator it is due to."""
    level: dict[Node, float] = {}  # of the value as it is read
    culprit: dict[Node, str | None] = {}  # the nearest quantized operator that it comes through
    for node in reference.graph.nodes:
        name = origin(node) or node.name
        source = max(node.all_input_nodes, key=lambda each: level[each], default=None)
        before = level[source] if source else 0.0
        computed = noise.computed(name)
        after = before if computed is None else computed
        inherited = culprit[source] if source else None
        culprit[node] = name if name in quantized else inherited
        if culprit[node]:
            yield str(culprit[node]), _Step(before, after)
        rounded = noise.rounded(name)
        level[node] = after if rounded is None else rounded
        if rounded is not None:
            for each in [name] if name in quantized else _readers(node, quantized):
                yield each, _Step(after, rounded)


def _readers(node: Node, quantized: Mapping[str, Decision]) -> list[str]:
    return [name for user in node.users if (name := origin(user)) and name in quantized]


def _tallied(
    reference: GraphModule, converted: GraphModule, samples: Sequence[tuple[Any, ...]]
) -> tuple[dict[str, Tally], dict[str, Tally]]:
    given: dict[str, Tally] = {}
    read: dict[str, Tally] = {}
    wanted: dict[str, Tensor] = {}
    to_compute, to_read = set[str](), set[str]()

    def keep(name: str, value: Tensor, rounded: bool) -> None:
        wanted[name] = value.clone()

    def compare(name: str, value: Tensor, rounded: bool) -> None:
        tallies, pending = (read, to_read) if rounded else (given, to_compute)
        if name in pending and wanted[name].shape == value.shape:
            pending.remove(name)  # a value may be rounded once for each that reads it
            tallies.setdefault(name, Tally()).add(wanted[name], value)

    with torch.no_grad(), keeping_state(reference), keeping_state(converted):
        for sample in samples:
            wanted.clear()
            _Values(reference, keep).run(*cloned(sample))
            to_compute, to_read = set(wanted), set(wanted)
            _Values(converted, compare).run(*cloned(sample))
    return given, read


class _Values(Interpreter):
    """Shows the value of each operator and input, and again, as rounded, once it is read so."""

    def __init__(self, module: GraphModule, seen: Callable[[str, Tensor, bool], None]) -> None:
        super().__init__(module)
        self._seen = seen

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        source = _rounded_source(n)
        name = _name(source or n)
        if name and isinstance(result, Tensor) and result.is_floating_point():
            self._seen(name, result, source is not None)
        return result


def _rounded_source(node: Node) -> Node | None:
    """What a node gives back after rounding; None if it does not dequantize."""
    if not str(node.target).startswith(DEQUANTIZE):
        return None
    rounded = node.args[0]
    source = rounded.args[0] if isinstance(rounded, Node) and rounded.args else None
    return source if isinstance(source, Node) else None


def _name(node: Node) -> str | None:
    return origin(node) or (node.name if node.op == "placeholder" else None)


def _share(tally: Tally) -> float:
    """The noise as a share of the signal's power, which is finite."""
    return _ratio(tally.sqnr)


def _share_of_worst_slice(tally: Tally) -> float:
    found = tally.worst_slice
    return _ratio(found.sqnr if found else tally.sqnr)


def _ratio(sqnr: float) -> float:
    return float(10 ** (-max(sqnr, LEAST) / 10))


def _decibels(share: float) -> float:
    return -10 * math.log10(share) if share else math.inf
