"""Counts of the multiply-accumulates of each operator of a graph, where they are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import torch
from attrs import evolve, frozen
from torch import Tensor
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx import GraphModule, Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

from qreg.analysis.formulas import formula_of, has_no_products
from qreg.graph.compat import annotation_of, size_hint
from qreg.graph.nodes import called
from qreg.graph.operators import ATTENTION
from qreg.graph.provenance import origin

REMEDY = "register one with torch.utils.flop_counter.register_flop_formula"
SIZE = "a size that depends on the data"


@frozen
class Count:
    """The known multiply-accumulates of an operator, and why others are ``unknown``."""

    macs: int = 0
    unknown: tuple[str, ...] = ()

    def __add__(self, other: Count) -> Count:
        unknown = dict.fromkeys((*self.unknown, *other.unknown))
        return Count(self.macs + other.macs, tuple(unknown))

    @property
    def is_none(self) -> bool:
        return not self.macs and not self.unknown


def counts(model: GraphModule) -> dict[str, Count]:
    """Return the counts of all operators by origin, for the sizes that the model was exported with.

    Operators in the body of a ``scan`` count once for each step. If the operators of a body have
    origins, they are counted instead of the operator that runs the body.
    """
    found: dict[str, Count] = {}
    _collect(model, Count(macs=1), found)
    return found


def float_macs(node: Node) -> int:
    """Return the multiply-accumulates that an annotated operator computes in float.

    An attention whose queries and keys alone are quantized multiplies its weights by its values in
    float.
    """
    annotation = annotation_of(node)
    if called(node) not in ATTENTION or annotation is None or not annotation.input_qspec_map:
        return 0
    value = node.args[2]
    if value in annotation.input_qspec_map:
        return 0
    try:
        keys = _sized(node.args[1]).shape[-2]
        return int(_sized(node).numel()) * int(keys)
    except _UnknownSize:
        return 0  # the operator is not counted at all


def _collect(model: GraphModule, times: Count, found: dict[str, Count]) -> None:
    for node in model.graph.nodes:
        bodies = _bodies(node, model)
        listed = [body for body in bodies if any(map(origin, body.graph.nodes))]
        for body in listed:
            _collect(body, _repeated(times, _times(node)), found)
        name = origin(node)
        if name is not None and (len(listed) < len(bodies) or not bodies):
            own = _count(node, [body for body in bodies if body not in listed])
            found[name] = found.get(name, Count()) + _repeated(own, times)


def _count(node: Node, bodies: Sequence[GraphModule]) -> Count:
    """Return the count of one operator, with all that is in its bodies."""
    if isinstance(node.target, OpOverload):
        return _operator(node, node.target)
    if isinstance(node.target, HigherOrderOperator):
        return _higher_order(node, node.target, bodies)
    return Count()


def _repeated(one: Count, times: Count) -> Count:
    """Return a count multiplied by the number of runs, which may be unknown."""
    if one.is_none:
        return one
    return Count(one.macs * times.macs, one.unknown + times.unknown)


def _operator(node: Node, operator: OpOverload) -> Count:
    registered = flop_registry.get(operator.overloadpacket)
    formula = formula_of(operator)
    if formula is None and registered is None and has_no_products(operator):
        return Count()
    try:
        args, kwargs, out = tree_map(_sized, (node.args, node.kwargs, node))
    except _UnknownSize as unknown:
        return Count(unknown=(f"{operator} has {unknown}",))
    return _counted(operator, args, kwargs, out)


def _counted(operator: OpOverload, args: Any, kwargs: Any, out: Any) -> Count:
    """Count by a formula, or by the parts of the operator; tensors are on the meta device."""
    formula = formula_of(operator)
    registered = flop_registry.get(operator.overloadpacket)
    if formula is not None:
        first = out[0] if isinstance(out, (tuple, list)) else out
        return Count(formula(first, *_positional(operator, args, kwargs)))
    if registered is not None:
        return _registered(operator, registered, args, kwargs, out)
    if has_no_products(operator):
        return Count()
    return _composed(operator, args, kwargs)


def _registered(operator: Any, formula: Any, args: Any, kwargs: Any, out: Any) -> Count:
    try:
        return Count(int(formula(*args, **kwargs, out_val=out)) // 2)
    except Exception as error:  # raised by a third-party formula
        return Count(unknown=(f"the flop formula of {operator} failed: {error!r}",))


def _positional(operator: OpOverload, args: Any, kwargs: Any) -> list[Any]:
    rest = operator._schema.arguments[len(args) :]
    return [*args, *(kwargs.get(each.name, each.default_value) for each in rest)]


def _composed(operator: OpOverload, args: Any, kwargs: Any) -> Count:
    """Return the count of the operators that torch decomposes an operator into."""
    parts = _Parts()
    try:
        with parts, torch.no_grad():
            composed = operator.decompose(*args, **kwargs) is not NotImplemented
    except Exception as error:  # a decomposition may raise anything
        return Count(
            unknown=(f"{operator} has no flop formula, and decomposing it failed: {error}",)
        )
    return parts.count if composed else Count(unknown=(f"{operator} has no flop formula",))


class _Parts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators that run under it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = Count()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.count += _counted(func, args, kwargs, out)
        return out


def _higher_order(
    node: Node, operator: HigherOrderOperator, bodies: Sequence[GraphModule]
) -> Count:
    """Count by a registered formula, or by the bodies; for a ``cond``, by the larger branch."""
    registered: Any = flop_registry.get(operator)
    if registered is not None:
        args, kwargs, out = tree_map(_sized, (node.args, node.kwargs, node))
        return _registered(operator, registered, args, kwargs, out)
    if not bodies:
        return Count(unknown=(f"{operator} has no flop formula",))
    inside = [_all(body) for body in bodies]
    if operator is torch.ops.higher_order.cond:
        return evolve(sum(inside, Count()), macs=max(each.macs for each in inside))
    return _repeated(sum(inside, Count()), _times(node))


def _all(body: GraphModule) -> Count:
    return sum((_count(node, _bodies(node, body)) for node in body.graph.nodes), Count())


def _bodies(node: Node, model: GraphModule) -> list[GraphModule]:
    """Return the graphs that a higher-order operator runs."""
    if not isinstance(node.target, HigherOrderOperator):
        return []
    constants = [each for each in node.all_input_nodes if each.op == "get_attr"]
    values = [attrgetter(str(each.target))(model) for each in constants]
    return [each for each in values if isinstance(each, GraphModule)]


def _times(node: Node) -> Count:
    """Return how often the bodies of a higher-order operator run."""
    operators = torch.ops.higher_order
    once = [
        operators.wrap_with_set_grad_enabled,
        operators.wrap_with_autocast,
        operators.invoke_subgraph,
        operators.cond,
    ]
    if node.target in once:
        return Count(macs=1)
    if node.target in (operators.scan, operators.map_impl):
        inputs = node.args[2] if node.target is operators.scan else node.args[1]
        try:
            return Count(macs=_steps(inputs))
        except _UnknownSize:
            return Count(unknown=(f"{node.target} runs over {SIZE}",))
    return Count(unknown=(f"the number of iterations of {node.target} is unknown",))


def _steps(inputs: Any) -> int:
    return int(_sized(next(iter(inputs))).shape[0])


class _UnknownSize(Exception):
    """A size of a tensor is not known when a model is exported."""


def _sized(argument: Any) -> Any:
    """Return the value of a node on the meta device, with sizes as they were in the example."""
    value = _value(argument) if isinstance(argument, Node) else argument
    if isinstance(value, (tuple, list)):
        return type(value)(map(_sized, value))
    if isinstance(value, Tensor):
        return torch.empty(_sizes(value.shape), dtype=value.dtype, device="meta")
    return _size(value) if isinstance(value, torch.SymInt) else value


def _value(node: Node) -> Any:
    if "val" in node.meta or node.op != "get_attr":
        return node.meta.get("val")
    return attrgetter(str(node.target))(node.graph.owning_module)


def _sizes(shape: Iterable[Any]) -> list[int]:
    return [_size(size) for size in shape]


def _size(size: Any) -> int:
    hint = size_hint(size)
    if hint is None:
        raise _UnknownSize(SIZE)
    return hint
