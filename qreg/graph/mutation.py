"""Analyze which memory a graph writes to, through which nodes, and which nodes read it.

This module is the only source about in-place operators. A written buffer is state and not a
constant. An observer separates a tensor from its views. Code that runs a model restores the
model's buffers.
"""

from __future__ import annotations

import functools
import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from attrs import Factory, define
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from qreg.graph.nodes import argument, tensor_at

WAY_OUT = "assign the result of torch.cat, torch.where or a product instead"
# These operators update running statistics in training, which their schemas do not declare.
NORMS = ("aten.batch_norm.default", "aten.instance_norm.default")
DROPOUTS = frozenset({"aten.dropout.default", "aten.feature_dropout.default"})


@define(eq=False)
class Mutations:
    """The aliases and in-place writes of a graph, found in one walk.

    ``owner`` maps each node that shares memory to the first node with the same memory.
    ``writers`` are the operators that write to an owner's memory, in the order of the graph.
    """

    owner: dict[Node, Node] = Factory(dict)
    writers: dict[Node, list[Node]] = Factory(lambda: defaultdict(list))

    @classmethod
    def of(cls, graph: Graph) -> Mutations:
        found = cls()
        for node in graph.nodes:
            if node.op == "call_function":
                found._read(node)
        found._join_names_of_one_tensor(graph)
        return found

    def owner_of(self, node: Node) -> Node:
        return self.owner.get(node, node)

    def is_written(self, node: Node) -> bool:
        """Whether an operator writes to the memory of a node."""
        return self.owner_of(node) in self.writers

    def is_state(self, node: Node) -> bool:
        """Whether the memory of a node is a parameter or buffer that the graph writes to."""
        return self.owner_of(node).op == "get_attr" and self.is_written(node)

    def live_views(self) -> set[Node]:
        """Return the nodes whose memory is written through one node and read through another."""
        if not self.writers:
            return set()
        aliases: dict[Node, list[Node]] = defaultdict(list)
        for node, owner in self.owner.items():
            aliases[owner].append(node)
        graph = next(iter(self.writers)).graph
        order = {node: number for number, node in enumerate(graph.nodes)}
        owners = [o for o in self.writers if self._is_seen(o, aliases[o], order)]
        return {node for owner in owners for node in (owner, *aliases[owner])}

    def reasons(self, graph: Graph) -> dict[Node, str]:
        """Return the reason for each operator that cannot be quantized because of mutation.

        A written buffer is not a constant to fold. A write to an input of the model or to a live
        view must not be redirected to a copy that an observer makes.
        """
        live, found = self.live_views(), {}
        for node in graph.nodes if self.writers else ():
            if node.op == "call_function":
                reason = self._reason(node, live)
                if reason:
                    found[node] = reason
        return found

    def _reason(self, node: Node, live: set[Node]) -> str | None:
        # The running statistics of a norm in training are neither observed nor folded.
        trains = _is_norm(node.target) and argument(node, 5)
        touched = (node, *node.all_input_nodes[: 1 if trains else None])
        for each in touched:
            if self.is_state(each):
                return f"it reads or writes {self.owner_of(each).target!r}, which the model changes"
        for each in touched:
            if each in live:
                return f"{each.name} is mutated in place while a view is live: {WAY_OUT}"
        owner = self.owner_of(node)
        if owner.op == "placeholder" and node in self.writers.get(owner, ()):
            return f"it changes the input {owner.target!r} in place"
        return None

    def _is_seen(self, owner: Node, aliases: list[Node], order: dict[Node, int]) -> bool:
        """Whether a write to a view is read through the whole, or one to the whole by a view."""
        writers = self.writers[owner]
        whole = {owner, *writers}
        if any(source not in whole for writer in writers for source in _written_by(writer)):
            return True
        first, last = order[writers[0]], order[writers[-1]]
        older = (view for view in aliases if view not in whole and order[view] < last)
        return any(order[user] > first for view in older for user in view.users)

    def _read(self, node: Node) -> None:
        if node.target is operator.getitem:
            for source in node.all_input_nodes:
                if source in self.owner:
                    self.owner[node] = self.owner[source]
            return
        for source in _shared_with(node):
            self.owner.setdefault(source, source)
            self.owner[node] = self.owner[source]
        for source in _written_by(node):
            self.writers[self.owner_of(source)].append(node)

    def _join_names_of_one_tensor(self, graph: Graph) -> None:
        """Record a write to a tensor that has several names under all of its names."""
        written = [owner for owner in self.writers if owner.op == "get_attr"]
        if not written:
            return
        storages = {_storage(owner): owner for owner in written}
        for node in graph.find_nodes(op="get_attr"):
            first = storages.get(_storage(node))
            if first is not None and first is not node:
                self.owner.setdefault(first, first)
                self.owner[node] = first


def _storage(node: Node) -> int | None:
    value = attribute_of(node)
    return value.untyped_storage().data_ptr() or None if isinstance(value, Tensor) else None


def attribute_of(node: Node) -> Any:
    """Return the attribute that a ``get_attr`` node reads: a tensor, or a loop or branch body."""
    module = node.graph.owning_module
    return operator.attrgetter(str(node.target))(module) if module is not None else None


def _shared_with(node: Node) -> Iterator[Node]:
    """Yield the inputs whose memory a result shares, or may share."""
    if _is_dropout(node.target) and argument(node, 2) is False:
        yield node.args[0]  # type: ignore[misc]  # which the schema does not declare
        return
    for position, name in _sharing(node.target):
        yield from _nodes(
            node.args[position] if position < len(node.args) else node.kwargs.get(name)
        )


@functools.cache
def _sharing(target: Any) -> tuple[tuple[int, str], ...]:
    """Return the positions and names of the arguments whose memory a result may share."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        return ()
    returned = {name for value in schema.returns for name in _sets(value)}
    return tuple(
        (position, each.name)
        for position, each in enumerate(schema.arguments)
        if returned & _sets(each) or _goes_into_a_list(each)
    )


def _goes_into_a_list(declared: Any) -> bool:
    """Whether results are a list of views, as those of ``chunk``: ``Tensor(a -> *) self``."""
    return declared.alias_info is not None and "*" in declared.alias_info.after_set


def _written_by(node: Node) -> Iterator[Node]:
    schema = getattr(node.target, "_schema", None)
    if schema is not None and schema.is_mutable and not _changes_shape_alone(node):
        for declared, value in _declared(node):
            if declared.alias_info is not None and declared.alias_info.is_write:
                yield from _nodes(value)
    if _is_norm(node.target) and argument(node, 5):
        yield from _nodes(node.args[3:5])


def _changes_shape_alone(node: Node) -> bool:
    """Whether an operator changes the shape in place but no values, like ``squeeze_``."""
    return torch.Tag.inplace_view in node.target.tags  # type: ignore[union-attr]


@functools.cache
def _is_dropout(target: Any) -> bool:
    return str(target) in DROPOUTS


@functools.cache
def _is_norm(target: Any) -> bool:
    return str(target) in NORMS


def _sets(value: Any) -> set[str]:
    return set(value.alias_info.before_set) if value.alias_info is not None else set()


def _declared(node: Node) -> Iterator[tuple[Any, Any]]:
    """Yield the arguments of a call, as declared and as given."""
    declared: Any = node.target
    for position, each in enumerate(declared._schema.arguments):
        by_position = position < len(node.args)
        yield each, node.args[position] if by_position else node.kwargs.get(each.name)


def _nodes(value: Any) -> Iterable[Node]:
    listed = value if isinstance(value, (list, tuple)) else (value,)
    return (each for each in listed if isinstance(each, Node))


def written_buffers(graph: Graph) -> frozenset[str]:
    """Return the names of the parameters and buffers that the operators of a graph write to.

    For a tensor with several names, all of its names. Empty for a graph without a module.
    """
    found = Mutations.of(graph)
    return frozenset(str(n.target) for n in graph.find_nodes(op="get_attr") if found.is_state(n))


def changed_buffers(model: object) -> list[Tensor]:
    """Return the tensors of a graph module that its operators write to."""
    if not isinstance(model, GraphModule):
        return []
    found = Mutations.of(model.graph)
    written = [n for n in model.graph.find_nodes(op="get_attr") if found.is_state(n)]
    return [tensor_at(node) for node in written]


def own_state(model: GraphModule) -> GraphModule:
    """Replace the buffers that a graph module writes to by copies, and return the graph module.

    Exported graphs share their tensors with the module that they were exported from.
    """
    copies: dict[int, Tensor] = {}
    for name in sorted(written_buffers(model.graph)):
        path, _, attribute = name.rpartition(".")
        holder = model.get_submodule(path)
        before = getattr(holder, attribute)
        copy = copies.setdefault(id(before), before.detach().clone())
        if isinstance(before, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, before.requires_grad)
        setattr(holder, attribute, copy)
    return model


@contextmanager
def keeping_state(model: object) -> Iterator[None]:
    """Restore the values of the buffers that a model changes when the context exits."""
    buffers = changed_buffers(model)
    before = [buffer.detach().clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
