"""Computes once, ahead of quantization, what depends on constants of the model alone.

Reparametrized weights (``weight_norm``, a low-rank update), slices of the projections of an
attention, transposed tables and tensors made from shapes become constants. Without this a backend
would compute them at every call, and a weight or bias that is computed cannot be quantized ahead of
time.

A tensor that the graph writes to is not a constant, and neither is what is random.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node
from torch.nn import Parameter

from qreg.mutation import Mutations
from qreg.operators import ADDMM, CONV, LINEAR, MATMUL, TRANSPOSED
from qreg.patterns import operator_name, tensor_at

if TYPE_CHECKING:
    from torch.fx import Graph, GraphModule

MEGABYTE = 2**20
SHARE = 16  # folding may add a sixteenth of the bytes of all constants, or a megabyte

PADDED = ("aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding")
PRODUCTS = frozenset({*CONV, *PADDED, *TRANSPOSED, *LINEAR, *ADDMM, *MATMUL})
# What depends on the shape and type of its first argument, not on the values in it.
SHAPED = ("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
UNDEFINED = ("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")
# Changes a flag of a tensor and none of its values: torch.tensor(...) inside a model has one.
DETACHES = "aten.detach_.default"
KEPT = ("nn_module_stack", "stack_trace", "source_fn_stack")  # of what is folded


def fold_constants(model: GraphModule) -> None:
    """Replaces operators on constants by what they compute, in place; each is computed once.

    The tensors of the model stay as they are: what is folded is new, shared by all that read it,
    and a constant that nothing reads any more is removed from the graph module. The bytes of all
    constants grow by a sixteenth or a megabyte at most, not counting weights that are computed (see
    :func:`_affordable`).
    """
    constants = constant_nodes(model.graph)
    folded = _affordable(_computed(constants), constants)
    for node, value in _values(folded, constants):
        _replace(model, node, value)
    if folded:
        erase_unread(model, constants)
        model.recompile()


def constant_nodes(graph: Graph) -> dict[Node, None]:
    """The nodes whose value is the same in every call, in the order of the graph."""
    mutations, found = Mutations.of(graph), dict[Node, None]()
    for node in graph.nodes:
        if not mutations.is_written(node) and _is_constant(node, found):
            found[node] = None
    return found


def _is_constant(node: Node, constants: dict[Node, None]) -> bool:
    if node.op == "get_attr":
        return is_tensor(node)
    return (
        node.op == "call_function"
        and _is_pure(node)
        and all(source in constants for source in _read(node))
    )


def is_tensor(node: Node) -> bool:
    """Whether a ``get_attr`` node reads a tensor, not the body of a loop or a branch."""
    return isinstance(tensor_at(node), Tensor)


def _is_pure(node: Node) -> bool:
    """Whether a call computes tensors of static shapes from its arguments, and does nothing else.

    Only operators of ATen are known well enough; those that quantize are not among them.
    """
    if node.target is operator.getitem:
        return True
    if not isinstance(node.target, OpOverload) or node.target.namespace != "aten":
        return False
    tags, schema = node.target.tags, node.target._schema
    if torch.Tag.nondeterministic_seeded in tags or (
        schema.is_mutable and str(node.target) != DETACHES
    ):
        return False
    return _base_name(node) not in UNDEFINED and _is_static(node.meta.get("val"))


def _base_name(node: Node) -> str:
    return str(node.target).split(".")[1]


def _is_static(value: Any) -> bool:
    values = value if isinstance(value, (tuple, list)) else (value,)
    sizes = [size for each in values if isinstance(each, Tensor) for size in each.shape]
    tensors = all(isinstance(each, Tensor) for each in values)
    return tensors and all(isinstance(size, int) for size in sizes)


def _read(node: Node) -> Sequence[Node]:
    """The nodes whose values a call depends on."""
    sources = node.all_input_nodes
    if node.target is operator.getitem or _base_name(node) not in SHAPED:
        return sources
    return [each for each in sources if not _is_static(each.meta.get("val"))]


def _aliased_by(node: Node) -> Iterator[Node]:
    """The arguments whose memory the result may be a part of."""
    if node.target is operator.getitem:
        yield from node.all_input_nodes
    elif isinstance(node.target, OpOverload):
        for declared, value in zip(node.target._schema.arguments, node.args, strict=False):
            if declared.alias_info is not None and isinstance(value, Node):
                yield value


def _storage(node: Node) -> int:
    return int(tensor_at(node).untyped_storage()._cdata)


def _computed(constants: dict[Node, None]) -> list[Node]:
    """The constants that are computed and that something reads which is not constant itself."""
    return [
        node
        for node in constants
        if node.op == "call_function"
        and isinstance(node.meta.get("val"), Tensor)
        and any(user not in constants for user in node.users)
    ]


def _affordable(computed: Sequence[Node], constants: dict[Node, None]) -> list[Node]:
    """Those worth their bytes, in the order of the graph.

    Constants that are computed from one another's sources stand or fall together: together they
    free the sources that nothing else reads. Those that add least come first, until they have added
    a sixteenth of all constants, or a megabyte. So a table that is also read as it is, is not
    stored a second time because it is transposed for the output; and a mask of many megabytes,
    which one line computes, is not stored at all. A weight or bias of a product is folded whatever
    its size, unless it is a view: computing it at each call costs more, and it cannot be quantized
    per channel by its runtime.
    """
    groups = _by_source(computed, constants)
    stored = sum(_storage_bytes(constants).values())
    budget = max(MEGABYTE, stored // SHARE)
    chosen = set[Node]()
    for added, group in sorted(((_added(g, constants), g) for g in groups), key=lambda x: x[0]):
        if added <= budget:
            chosen.update(group)
            budget -= max(added, 0)
        else:
            chosen.update(each for each in group if _is_computed_weight(each))
    return [node for node in computed if node in chosen]


def _added(group: Sequence[Node], constants: dict[Node, None]) -> int:
    """How many bytes the constants of a program grow by if a group is folded."""
    sources = [each for each in ancestors(group) if each.op == "get_attr"]
    freed = _storage_bytes(sources)
    for node in constants:
        if node.op == "get_attr" and any(user not in constants for user in node.users):
            freed.pop(_storage(node), None)
    return sum(_bytes(node.meta["val"]) for node in group) - sum(freed.values())


def _storage_bytes(nodes: Iterable[Node]) -> dict[int, int]:
    """The bytes that each storage is read of, by the ``get_attr`` nodes among ``nodes``."""
    found = dict[int, int]()
    for node in nodes:
        if node.op == "get_attr":
            found[_storage(node)] = max(_bytes(tensor_at(node)), found.get(_storage(node), 0))
    return found


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()


def _is_computed_weight(node: Node) -> bool:
    is_read_by_a_product = any(operator_name(user.target) in PRODUCTS for user in node.users)
    return is_read_by_a_product and not _is_view(node)


def _is_view(node: Node) -> bool:
    """Whether a value is a part of a constant's memory, however it was cut out and turned."""
    while node.op == "call_function":
        sources = list(_aliased_by(node))
        if not sources:
            return False
        node = sources[0]
    return True


def ancestors(nodes: Iterable[Node]) -> set[Node]:
    """What these nodes are computed from, and they themselves."""
    waiting, found = list(nodes), set[Node]()
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += _sources(node)
    return found


def _sources(node: Node) -> Sequence[Node]:
    return _read(node) if node.op == "call_function" else ()


def _by_source(computed: Sequence[Node], constants: dict[Node, None]) -> list[list[Node]]:
    """The computed constants, those with a source in common together."""
    owner = dict[Any, Any]()

    def root(key: Any) -> Any:
        while owner.setdefault(key, key) is not key:
            owner[key] = key = owner[owner[key]]
        return key

    for node in constants:
        if node.op == "get_attr":
            owner[root(node)] = root(("storage", _storage(node)))
        for source in _sources(node):
            owner[root(source)] = root(node)
    groups = defaultdict[Any, list[Any]](list)
    for node in computed:
        groups[root(node)].append(node)
    return list(groups.values())


@torch.no_grad()
def _values(folded: Sequence[Node], constants: dict[Node, None]) -> list[tuple[Node, Tensor]]:
    """What the folded nodes compute; anything else is forgotten after its last use."""
    needed, wanted = ancestors(folded), set(folded)
    order = [node for node in constants if node in needed]
    last = {source: node for node in order for source in _sources(node)}
    values, found = dict[Node, Any](), list[tuple[Node, Tensor]]()
    for node in order:
        values[node] = _value(node, values)
        if node in wanted:
            found.append((node, values[node]))
        for source in {each for each in _sources(node) if last[each] is node}:
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
    """Whether a value is all of a source, as an alias of it is."""
    return value.is_set_to(source.detach()) and value.dtype == source.dtype


def _constant(model: GraphModule, node: Node, value: Tensor, sources: Sequence[Node]) -> Node:
    own = value.contiguous()
    if own.untyped_storage().nbytes() != _bytes(own) or any(
        own.untyped_storage()._cdata == _storage(each) for each in sources
    ):
        own = own.clone()
    trained = any(isinstance(tensor_at(each), Parameter) for each in sources)
    return read_constant(model, node, _name(node), own, trained and own.is_floating_point())


def _name(node: Node) -> str:
    """The module that reads a constant, and what it is there: ``attention_weight``."""
    from qreg.scopes import module_path

    user = next(iter(node.users))
    schema = getattr(user.target, "_schema", None)
    positions = [position for position, each in enumerate(user.args) if each is node]
    argument = schema.arguments[positions[0]].name if schema and positions else ""
    role = argument if argument in ("weight", "bias", "mask") else "constant"
    return f"{module_path(user)}.{role}".strip(".").replace(".", "_")


def read_constant(
    model: GraphModule, origin: Node, name: str, value: Tensor, as_parameter: bool
) -> Node:
    """A new parameter or buffer, and the node that reads it, ahead of every operator.

    ``name`` gets a number where it is taken. The node has the provenance of ``origin``.
    """
    free = name
    while hasattr(model, free):
        stem, _, number = free.rpartition("_")
        free = f"{stem}_{int(number) + 1}" if stem and number.isdigit() else f"{free}_1"
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


def erase_unread(model: GraphModule, candidates: Iterable[Node]) -> None:
    """Erases those of the nodes that nothing reads, and the attributes that they alone read."""
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
