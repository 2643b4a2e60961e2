"""Where a quantized model loses its quality: the operators that add most noise of their own.

The SQNR of an operator's output has the noise of everything before it in it. What tells where noise
comes from is a drop: by computing, from the SQNR of the inputs to that of the output, or by
rounding, from the output to what is read of it. A rounding belongs to the operator whose output it
is if that is quantized, else to those that read it quantized. Where an operator in float makes
noise count, as a layer norm does that scales one large channel down, the drop belongs to the
quantized operator that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from qreg.graph.mutation import keeping_state
from qreg.graph.provenance import origin
from qreg.programs.inputs import cloned
from qreg.verification.noise import Tally
from qreg.verification.remedies import anchor_of, scope_of

if TYPE_CHECKING:
    from qreg.plugins.types.decision import Decision


DEQUANTIZE = "quantized_decomposed.dequantize_per_"
SHOWN = 3
LEAST = -20.0  # dB: below it all is noise, and more of it is no matter
HEADROOM = (
    20.0  # dB above the least SQNR that is wanted: noise below a hundredth of it is no matter
)
SHARE = 1 / 3  # of the largest drop: operators with smaller ones are not named


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
    min_sqnr: float,
    slices: bool,
) -> tuple[Drop, ...]:
    """The quantized operators at which the SQNR drops most, at most three, the largest drop first.

    ``reference`` is the float graph with the operators that were decided on. ``min_sqnr`` is the
    SQNR that is wanted of the outputs: an SQNR far above it is as good as any. ``slices`` measures
    the worst slice of each tensor instead of the whole. Takes one pass of each graph per sample.
    """
    measure = _of_worst_slice if slices else _of_whole
    noise = _Noise(*_tallied(reference, converted, samples), measure)
    enough = min_sqnr + HEADROOM
    quantized = {each.node: each for each in decisions if each.quantized}
    worst: dict[str, _Step] = {}
    for name, step in _steps(reference, noise, quantized):
        anchor = anchor_of(quantized[name])
        if anchor in quantized and step.drop(enough) > worst.get(anchor, NOTHING).drop(enough):
            worst[anchor] = step
    ordered = sorted(worst.items(), key=lambda pair: -pair[1].drop(enough))
    least = max((SHARE * step.drop(enough) for step in worst.values()), default=0.0)
    return tuple(
        Drop(
            node=name,
            operator=quantized[name].operator,
            module=quantized[name].module,
            before=step.before,
            after=step.after,
            keep=scope_of(quantized[name], decisions),
        )
        for name, step in ordered[:SHOWN]
        if step.drop(enough) >= least
    )


@frozen
class _Step:
    """The SQNR in dB before and after something is computed or rounded."""

    before: float
    after: float

    def drop(self, enough: float) -> float:
        return max(min(self.before, enough) - max(self.after, LEAST), 0.0)


NOTHING = _Step(0.0, 0.0)


@frozen
class _Noise:
    """Each value as it is given, and those that are rounded as they are read."""

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
        source = min(node.all_input_nodes, key=lambda each: level[each], default=None)
        before = level[source] if source else math.inf
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


def _of_whole(tally: Tally) -> float:
    return tally.sqnr


def _of_worst_slice(tally: Tally) -> float:
    found = tally.worst_slice
    return found.sqnr if found else tally.sqnr
