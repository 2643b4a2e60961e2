"""Rewrite writes to a part of a tensor, such as ``y[:, :n] = f(y[:, :n])``, as a new tensor.

The new tensor is a ``cat`` of what was written and of what is left, and readers downstream read it
instead. Backends run both in int8, whereas they leave every operator in float that touches memory
which is written through one view and read through another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field

from qreg.graph.insertion import call_before
from qreg.graph.nodes import argument, called, is_node, order_of, tensor_at
from qreg.graph.operators import PERMUTES, SLICE
from qreg.graph.rewrites import new_constant
from qreg.plugins.operator_names import registered

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from qreg.graph.mutation import Mutations

SELECT = ("aten.select.int",)
RESHAPED = ("aten.view.default", "aten.unsqueeze.default", "aten.squeeze.dim", "aten.squeeze.dims")
VIEWS = frozenset({*SLICE, *SELECT, *RESHAPED, *PERMUTES})
COPY = "aten.copy.default"
FILLS = ("aten.zero.default", "aten.fill.Scalar", "aten.fill.Tensor")


def without_slice_writes(model: GraphModule, modes: object = None) -> GraphModule:
    """Rewrite all writes through views that a ``cat`` can express, and return the graph.

    Parameters, buffers and inputs of the model that are written to stay as they are.
    """
    from qreg.graph.mutation import Mutations

    mutations = Mutations.of(model.graph)
    live = mutations.live_views()
    owners = [each for each in mutations.writers if each in live and each.op == "call_function"]
    memories = [_Memory.of(owner, mutations) for owner in owners]
    for memory in filter(_Memory.is_rewritable, memories):
        memory.rewrite()
    if memories:
        model.recompile()
    return model


@define
class _Memory:
    """The names of one tensor's memory: its owner, its views, and the writes to them.

    ``names`` are in the order of the graph, and ``bases`` the names that they are views of or
    write to. ``current`` has the number of writes and the value of each name, as it was last read
    or written.
    """

    owner: Node
    names: list[Node]
    writers: frozenset[Node]
    bases: dict[Node, Node]
    writes: int = 0
    current: dict[Node, tuple[int, Node]] = field(factory=dict)

    @classmethod
    def of(cls, owner: Node, mutations: Mutations) -> _Memory:
        shared = {each for each, first in mutations.owner.items() if first is owner}
        ordered = [node for node in owner.graph.nodes if node in shared and node is not owner]
        bases = {node: node.all_input_nodes[0] for node in ordered}
        return cls(owner, ordered, frozenset(mutations.writers[owner]), bases)

    def is_rewritable(self) -> bool:
        """Whether each name up to the last write is a view or a write that can be expressed."""
        places = [place for place, node in enumerate(self.names) if node in self.writers]
        return len(places) == len(self.writers) and all(
            _is_plain_write(node) if node in self.writers else _is_plain_view(node)
            for node in self.names[: places[-1] + 1]
        )

    def rewrite(self) -> None:
        """Replace all writes, and let later readers read what they result in."""
        names, started = {self.owner, *self.names}, False
        for node in list(self.owner.graph.nodes):
            started = started or node is self.owner
            if node is self.owner:
                self.current[node] = 0, node
            elif node in self.writers:
                self._write(node)
            elif started:
                for source in filter(names.__contains__, node.all_input_nodes):
                    node.replace_input_with(source, self._value(source, node))
                if node in names:
                    self.current[node] = self.writes, node
        for node in reversed(self.names):
            if not node.users:
                node.graph.erase_node(node)

    def _value(self, name: Node, reader: Node) -> Node:
        """Return what a name stands for at its reader; a view is taken again after a write."""
        view = self._view(name)
        writes, value = self.current[view]
        if writes < self.writes:
            base = self._value(self.bases[view], reader)
            target: Any = view.target
            value = call_before(reader, target, base, *view.args[1:])
            value.meta = {**view.meta, "val": value.meta["val"]}
            self.current[view] = self.writes, value
        return value

    def _view(self, name: Node) -> Node:
        """Return the view that a name stands for; that of a write is the one it writes through."""
        while name in self.writers:
            name = self.bases[name]
        return name

    def _write(self, writer: Node) -> None:
        view = self._view(writer)
        if called(writer) == COPY and self._place(writer) == self._place(writer.args[1]):
            return  # the end of y[:, :n] *= 2, which has written to the slice already
        value = self._written(writer)
        results = {view: value}
        while view is not self.owner:
            base = self._view(self.bases[view])
            value = _put_back(value, view, self._value(base, writer), writer)
            results[base] = value
            view = base
        self.writes += 1
        self.current.update((name, (self.writes, each)) for name, each in results.items())

    def _place(self, name: Any) -> Any:
        """Return what tells the elements that a name stands for: its views, from the owner on."""
        if name not in self.bases:
            return name
        view = self._view(name)
        if view is self.owner:
            return view
        return view.target, view.args[1:], self._place(self.bases[view])

    def _written(self, writer: Node) -> Node:
        """Return what is written: the source of a copy, or the result of the functional twin."""
        from torch.fx.node import map_arg

        names = {self.owner, *self.names}

        def now(node: Node) -> Node:
            return self._value(node, writer) if node in names else node

        args: Any = map_arg(writer.args, now)
        if called(writer) == COPY:
            source: Node = args[1]
            return source
        if called(writer) in FILLS:
            return self._filled(writer)
        return call_before(writer, registered(called(writer)), *args, inherit=True)

    def _filled(self, writer: Node) -> Node:
        import torch

        model, value = writer.graph.owning_module, writer.meta["val"]
        assert model is not None
        filled = torch.full(value.shape, _fill_value(writer), dtype=value.dtype)
        return new_constant(model, writer, "_filled_", filled)


def _fill_value(writer: Node) -> Any:
    """Return the number that ``fill_`` or ``zero_`` writes; None if it is computed."""
    value: Any = 0 if called(writer) == "aten.zero.default" else argument(writer, 1)
    while is_node(value) and called(value) == "aten.lift_fresh_copy.default":
        value = value.args[0]
    if getattr(value, "op", "") == "get_attr" and tensor_at(value).numel() == 1:
        return tensor_at(value).item()
    return value if isinstance(value, (int, float)) else None


def _is_plain_view(node: Node) -> bool:
    """Whether a view of static size takes a fixed range, one fixed element, or all elements."""
    source, *computed = node.all_input_nodes  # a place may be computed from data
    sizes = (*source.meta["val"].shape, *node.meta["val"].shape)
    step = argument(node, 4) if called(node) in SLICE else None
    static = all(isinstance(size, int) for size in sizes)
    return called(node) in VIEWS and static and not computed and step in (None, 1)


def _is_plain_write(node: Node) -> bool:
    """Whether a write has a functional twin, and its result the size and type of the view."""
    value = node.meta["val"]
    if node.kwargs or registered(called(node)) is None:
        return False
    if called(node) != COPY:
        return called(node) not in FILLS or _fill_value(node) is not None
    source = node.args[1]
    found: Any = getattr(source, "meta", {}).get("val")
    return found is not None and (found.shape, found.dtype) == (value.shape, value.dtype)


def _put_back(value: Node, view: Node, base: Node, before: Node) -> Node:
    """Return a base with the elements that a view takes replaced by a value."""
    import torch

    aten, shape = torch.ops.aten, list(base.meta["val"].shape)
    if called(view) in PERMUTES:
        order: Any = order_of(view)
        inverse = [order.index(place) for place in range(len(order))]
        return call_before(before, aten.permute.default, value, inverse, inherit=True)
    if called(view) in RESHAPED:
        return call_before(before, aten.reshape.default, value, shape, inherit=True)
    dim, start, end = _range(view, shape)
    if called(view) in SELECT:
        taken = [*shape[:dim], 1, *shape[dim + 1 :]]
        value = call_before(before, aten.reshape.default, value, taken, inherit=True)
    slices = [(0, start), (start, end), (end, shape[dim])]
    parts = [
        value
        if place == (start, end)
        else call_before(before, aten.slice.Tensor, base, dim, *place, inherit=True)
        for place in slices
        if place[0] < place[1]
    ]
    whole = len(parts) == 1
    return value if whole else call_before(before, aten.cat.default, parts, dim, inherit=True)


def _range(view: Node, shape: list[int]) -> tuple[int, int, int]:
    """Return the dimension, the start and the end of a slice, or of the element of a select."""
    dim: Any = (argument(view, 1) or 0) % len(shape)
    if called(view) in SELECT:
        index: Any = argument(view, 2)
        return dim, index % shape[dim], index % shape[dim] + 1
    ends: Any = slice(argument(view, 2), argument(view, 3))
    start, end, _ = ends.indices(shape[dim])
    return dim, start, max(start, end)
