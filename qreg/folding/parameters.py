"""Evaluate operators that depend on constants of the model alone, ahead of quantization.

Reparametrized weights (``weight_norm``, a low-rank update), slices of the projections of an
attention, transposed tables and tensors made from shapes become constants. Without folding, a
backend would compute these values at every call, and a computed weight or bias cannot be quantized
ahead of time.

A tensor that the graph writes to is not a constant. Random values are not constants either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import Parameter

from qreg.folding.budget import affordable
from qreg.folding.constants import (
    DETACHES,
    ancestors,
    bytes_of,
    constant_nodes,
    sources_of,
    storage_of,
)
from qreg.graph.nodes import tensor_at

if TYPE_CHECKING:
    from torch.fx import GraphModule


_last_numbers: WeakKeyDictionary[GraphModule, dict[str, int]] = WeakKeyDictionary()

KEPT = ("nn_module_stack", "stack_trace", "source_fn_stack")  # metadata kept of folded nodes


def fold_constants(model: GraphModule) -> None:
    """Replace operators on constants by their results, in place; each is evaluated once.

    The tensors of the model do not change. Results are new constants, shared by all their
    consumers. Constants without remaining users are removed from the graph module. The bytes of
    all constants grow by one sixteenth or one megabyte at most, not counting computed weights (see
    :func:`~qreg.folding.budget.affordable`).
    """
    constants = constant_nodes(model.graph)
    repeated = _merge_repeated(constants)
    folded = affordable(_computed(constants), constants)
    for node, value in _values(folded, constants):
        _replace(model, node, value)
    if folded:
        erase_unread(model, constants)
    if folded or repeated:
        model.recompile()


def _merge_repeated(constants: dict[Node, None]) -> bool:
    """Replace constants that are computed alike by the first of them, and erase the others.

    A layer with a reparametrized weight computes the weight at each call. Return whether any
    constants were merged.
    """
    first, alias, before = dict[object, Node](), dict[Node, Node](), len(constants)
    for node in list(constants):
        if node.op == "get_attr":
            alias[node] = first.setdefault(_memory(node), node)
            continue
        given = torch.fx.map_arg((node.args, node.kwargs), lambda each: alias.get(each, each))
        kept = first.setdefault(f"{node.target} {given}", node)  # nodes print as their names
        if kept is not node:
            node.replace_all_uses_with(kept)
            node.graph.erase_node(node)
            del constants[node]
    return len(constants) < before


def _memory(node: Node) -> tuple[object, ...]:
    """Return a key that identifies the tensor that a ``get_attr`` node reads."""
    value = tensor_at(node)
    place = value.storage_offset(), tuple(value.shape), value.stride(), value.dtype
    return storage_of(node), *place, isinstance(value, Parameter)


def _computed(constants: dict[Node, None]) -> list[Node]:
    """Return the computed constants that have a consumer that is not a constant."""
    return [
        node
        for node in constants
        if node.op == "call_function"
        and isinstance(node.meta.get("val"), Tensor)
        and any(user not in constants for user in node.users)
    ]


@torch.no_grad()
def _values(folded: Sequence[Node], constants: dict[Node, None]) -> list[tuple[Node, Tensor]]:
    """Evaluate the folded nodes; intermediate values are freed after their last use."""
    needed, wanted = ancestors(folded), set(folded)
    order = [node for node in constants if node in needed]
    last = {source: node for node in order for source in sources_of(node)}
    values, found = dict[Node, Any](), list[tuple[Node, Tensor]]()
    for node in order:
        values[node] = _value(node, values)
        if node in wanted:
            found.append((node, values[node]))
        for source in {each for each in sources_of(node) if last[each] is node}:
            del values[source]
    return found


def _value(node: Node, values: dict[Node, Any]) -> Any:
    if node.op == "get_attr":
        return tensor_at(node).detach()

    def known(source: Node) -> Any:
        return values[source] if source in values else _of_same_shape(source.meta["val"])

    if str(node.target) == DETACHES:
        return known(node.all_input_nodes[0])
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), known)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _of_same_shape(value: Tensor) -> Tensor:
    return torch.empty(tuple(value.shape), dtype=value.dtype, device=value.device)


def _replace(model: GraphModule, node: Node, value: Tensor) -> None:
    sources = [each for each in ancestors([node]) if each.op == "get_attr"]
    same = next((each for each in sources if _is_same(value, tensor_at(each))), None)
    node.replace_all_uses_with(same or _constant(model, node, value, sources))


def _is_same(value: Tensor, source: Tensor) -> bool:
    """Whether a value is the same tensor as a source, such as an alias of the source."""
    return value.is_set_to(source.detach()) and value.dtype == source.dtype


def _constant(model: GraphModule, node: Node, value: Tensor, sources: Sequence[Node]) -> Node:
    own = value.contiguous()
    if own.untyped_storage().nbytes() != bytes_of(own) or any(
        own.untyped_storage()._cdata == storage_of(each) for each in sources
    ):
        own = own.clone()
    trained = any(isinstance(tensor_at(each), Parameter) for each in sources)
    return read_constant(model, node, _name(node), own, trained and own.is_floating_point())


def _name(node: Node) -> str:
    """Return the name of a constant: its consumer's module and its role, ``attention_weight``."""
    from qreg.graph.provenance import module_path

    user = next(iter(node.users))
    schema = getattr(user.target, "_schema", None)
    positions = [position for position, each in enumerate(user.args) if each is node]
    argument = schema.arguments[positions[0]].name if schema and positions else ""
    role = argument if argument in ("weight", "bias", "mask") else "constant"
    return f"{module_path(user)}.{role}".strip(".").replace(".", "_")


def read_constant(
    model: GraphModule, origin: Node, name: str, value: Tensor, as_parameter: bool
) -> Node:
    """Add a parameter or buffer, and return the node that reads it, ahead of every operator.

    A number is appended to ``name`` if the name is taken. The node has the provenance of
    ``origin``.
    """
    free = _free_name(model, name)
    if as_parameter:
        model.register_parameter(free, Parameter(value, requires_grad=False))
    else:
        model.register_buffer(free, value)
    first = next(each for each in model.graph.nodes if each.op != "placeholder")
    with model.graph.inserting_before(first):
        node = model.graph.get_attr(free)
    node.meta = {key: each for key, each in origin.meta.items() if key in KEPT}
    node.meta["val"] = origin.meta["val"].contiguous()
    return node


def _free_name(model: GraphModule, name: str) -> str:
    """Return the name, or if it is taken, the name with the next number not used in the model."""
    if not hasattr(model, name):
        return name
    stem, _, number = name.rpartition("_")
    numbered = stem and number.isdigit()
    kind, first = (stem, int(number)) if numbered else (name, 0)
    last = _last_numbers.setdefault(model, {})
    free = max(first, last.get(kind, 0)) + 1
    while hasattr(model, f"{kind}_{free}"):
        free += 1
    last[kind] = free
    return f"{kind}_{free}"


def erase_unread(model: GraphModule, candidates: Iterable[Node]) -> None:
    """Erase the nodes that have no users, and the attributes that only these nodes read."""
    targets = set[str]()
    for node in reversed(list(candidates)):
        if not node.users:
            if node.op == "get_attr":
                targets.add(str(node.target))
            model.graph.erase_node(node)
    still = {str(node.target) for node in model.graph.find_nodes(op="get_attr")}
    for target in targets - still:
        owner, _, name = target.rpartition(".")
        delattr(model.get_submodule(owner), name)
