"""Find the operators of a quantized model that add the most noise.

The SQNR of an operator's output includes the noise of everything upstream. A drop of the SQNR shows
where noise is added: by computing, from the inputs to the output, or by rounding, from the output
to the value that consumers read. A rounding is attributed to the operator whose output is rounded
if that operator is quantized, else to the quantized consumers. If a float operator amplifies noise,
as a layer norm that scales one large channel down does, the drop is attributed to the quantized
operator upstream. The same holds for an operator with the scale of its input, such as a slice, and
for one that reads places that others choose, such as a gather of what topk found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor
from torch.fx import GraphModule, Node

from qreg.graph.by_rows import ByRows
from qreg.graph.late import with_late_weights
from qreg.graph.mutation import keeping_state
from qreg.graph.provenance import numbered, origin
from qreg.inputs.specs import cloned
from qreg.utils.memory import return_freed, return_mapped
from qreg.verification.noise import Tally
from qreg.verification.remedies import anchor_of, scope_of

if TYPE_CHECKING:
    from qreg.plugins.types.decision import Decision


DEQUANTIZE = "quantized_decomposed.dequantize_per_"
OFTEN = 32  # operators, after which freed memory is returned to the system
SHOWN = 3
LEAST = -20.0  # dB: below it the value is all noise, and more noise does not matter
HEADROOM = (
    20.0  # dB above the required SQNR: noise below a hundredth of the allowed power is ignored
)
SHARE = 1 / 3  # of the largest drop: operators with smaller drops are not named


@frozen
class Drop:
    """A quantized operator at which the SQNR drops, from ``before`` to ``after`` in dB.

    ``keep`` is the quantizer call that keeps the operator in float.
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
    """Return at most three quantized operators at which the SQNR drops most, largest drop first.

    ``reference`` is the float graph with the operators that have decisions. ``min_sqnr`` is the
    SQNR in dB that the outputs should reach: drops far above it do not count. ``slices`` measures
    the worst slice of each tensor instead of the whole. Each sample is run once on each graph.
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
    """The SQNR in dB before and after a computation or a rounding."""

    before: float
    after: float

    def drop(self, enough: float) -> float:
        return max(min(self.before, enough) - max(self.after, LEAST), 0.0)


NOTHING = _Step(0.0, 0.0)


@frozen
class _Noise:
    """The noise of each value as computed (``given``) and, if rounded, as consumers ``read`` it."""

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
    """Yield each step that adds noise, with the name of the quantized operator it is due to."""
    level: dict[Node, float] = {}  # of the value as it is read
    culprit: dict[Node, str | None] = {}  # the nearest quantized operator upstream
    names = numbered(reference.graph)
    for node in reference.graph.nodes:
        value, name = names.get(node, node.name), origin(node) or node.name
        source = min(node.all_input_nodes, key=lambda each: level[each], default=None)
        before = level[source] if source else math.inf
        computed = noise.computed(value)
        after = before if computed is None else computed
        inherited = _chosen_by(node, culprit) or (culprit[source] if source else None)
        adds = name in quantized and not (inherited and _hands_on(node, quantized[name]))
        culprit[node] = name if adds else inherited
        if culprit[node]:
            yield str(culprit[node]), _Step(before, after)
        rounded = noise.rounded(value)
        level[node] = after if rounded is None else rounded
        if rounded is not None:
            for each in [name] if name in quantized else _readers(node, quantized):
                yield each, _Step(after, rounded)


def _chosen_by(node: Node, culprit: Mapping[Node, str | None]) -> str | None:
    """Return the culprit of integers that an operator reads, such as the places that topk chose.

    An operator that reads other places returns other values, however precise these are.
    """
    values = ((each, each.meta.get("val")) for each in node.all_input_nodes)
    chosen = (culprit[each] for each, v in values if isinstance(v, Tensor) and not _is_float(v))
    return next(filter(None, chosen), None)


def _is_float(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex()


def _hands_on(node: Node, decision: Decision) -> bool:
    """Whether an operator computes on the scale of its one input, as a slice does.

    Where such an operator picks out a part that the scale starves, the noise is that of the scale:
    to keep the operator in float would not help.
    """
    return decision.status == "shared" and len(node.all_input_nodes) == 1


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
            pending.remove(name)  # a value may be rounded once for each consumer
            tallies.setdefault(name, Tally()).add(wanted[name], value)

    with torch.no_grad(), keeping_state(reference), keeping_state(converted):
        for sample in samples:
            wanted.clear()
            _Values(reference, keep).run(*cloned(sample))
            return_mapped(reference.parameters())
            to_compute, to_read = set(wanted), set(wanted)
            _Values(converted, compare).run(*cloned(sample))
            return_freed()
    return given, read


class _Values(ByRows):
    """Call ``seen`` with the value of each operator and input, and again with its rounded value.

    A run holds few weights in float at once, and returns what it has freed now and then: glibc
    keeps ten times the values of a small transformer otherwise.
    """

    def __init__(self, module: GraphModule, seen: Callable[[str, Tensor, bool], None]) -> None:
        module = with_late_weights(module)
        super().__init__(module)
        self._seen, self._names, self._number = seen, numbered(module.graph), 0

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        self._number += 1
        if self._number % OFTEN == 0:
            return_freed()
        source = _rounded_source(n)
        name = self._name(source or n)
        if name and isinstance(result, Tensor) and result.is_floating_point():
            self._seen(name, result, source is not None)
        return result

    def _name(self, node: Node) -> str | None:
        return self._names.get(node) or (node.name if node.op == "placeholder" else None)


def _rounded_source(node: Node) -> Node | None:
    """Return the node whose value a node dequantizes; None if it does not dequantize."""
    if not str(node.target).startswith(DEQUANTIZE):
        return None
    rounded = node.args[0]
    source = rounded.args[0] if isinstance(rounded, Node) and rounded.args else None
    return source if isinstance(source, Node) else None


def _of_whole(tally: Tally) -> float:
    return tally.sqnr


def _of_worst_slice(tally: Tally) -> float:
    found = tally.worst_slice
    return found.sqnr if found else tally.sqnr
