"""Write the changes of an algorithm into a copy of a graph."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from qreg.errors import AlgorithmError
from qreg.graph.compat import move_annotation
from qreg.graph.layers import IN_FLOAT, INSERTED
from qreg.graph.prepared import observers
from qreg.graph.provenance import EXPORTED
from qreg.graph.values import constant_at, value_of
from qreg.observers.fixed import with_range
from qreg.plugins.types.algorithm import Change, Stage

MAY_SET = {
    "float": {"constants", "scale", "in_float"},
    "prepared": {"constants", "range"},
    "precision": {"in_float"},
    "converted": {"constants"},
}


def write(model: GraphModule, changes: Iterable[Change], stage: Stage) -> GraphModule:
    """Write changes into a graph in place, and return it.

    ``model`` is a copy that may share its tensors and observers with others: both are replaced, not
    modified. Raises ``AlgorithmError`` for a change that names an unknown operator, that its stage
    does not allow, or that does not fit the operator.
    """
    nodes = {node.name: node for node in model.graph.nodes}
    for change in changes:
        if change.node not in nodes:
            raise AlgorithmError(
                f"it changes {change.node!r}, which is not an operator of the model"
            )
        _check_stage(change, stage)
        _write(model, nodes[change.node], change)
    model.graph.lint()
    model.recompile()
    return model


def _check_stage(change: Change, stage: Stage) -> None:
    set_ = {
        "constants": bool(change.constants),
        "range": change.range is not None,
        "scale": change.scale is not None,
        "in_float": bool(change.in_float),
    }
    for name, is_set in set_.items():
        if is_set and name not in MAY_SET[stage]:
            raise AlgorithmError(
                f"it changes the {name} of {change.node!r}, which the stage {stage!r} forbids"
            )


def _write(model: GraphModule, node: Node, change: Change) -> None:
    for position, value in change.constants.items():
        _write_constant(model, node, position, value)
    if change.range is not None:
        _write_range(model, node, *change.range)
    if change.in_float:
        node.meta[IN_FLOAT] = change.in_float
    if change.scale is not None:
        _write_scale(model, node, change.scale, change.readers)


def _write_constant(model: GraphModule, node: Node, position: int, value: Tensor) -> None:
    constant = constant_at(node, position)
    if constant is None:
        _add_constant(model, node, position, value)
        return
    before = value_of(model, constant)
    if (value.shape, value.dtype) != (before.shape, before.dtype):
        raise AlgorithmError(
            f"its constant {position} of {node.name!r} has shape {tuple(value.shape)} and dtype "
            f"{value.dtype} (expected {tuple(before.shape)} and {before.dtype})"
        )
    own = _attribute(model, node, value, f"{constant.name}_of_{node.name}")
    own.meta = {**constant.meta}
    move_annotation(node, {constant: own})
    given = node.args[position]
    if isinstance(given, Node) and given.op == "call_module":
        own = _observed(model, node, own, given)
    node.update_arg(position, own)
    _erase_unused(model, given, constant)


def _add_constant(model: GraphModule, node: Node, position: int, value: Tensor) -> None:
    if (position < len(node.args) and node.args[position] is not None) or position > len(node.args):
        raise AlgorithmError(f"argument {position} of {node.name!r} is not a constant")
    own = _attribute(model, node, value, f"{node.name}_constant_{position}")
    own.meta = {"nn_module_stack": node.meta.get("nn_module_stack")}
    if isinstance(fake := node.meta.get("val"), Tensor) and hasattr(fake, "fake_mode"):
        own.meta["val"] = fake.fake_mode.from_tensor(value)
    arguments = [*node.args, None][: max(len(node.args), position + 1)]
    arguments[position] = own
    node.args = tuple(arguments)


def _attribute(model: GraphModule, node: Node, value: Tensor, name: str) -> Node:
    """Add a tensor to the model, and return a node that reads it, ahead of ``node``."""
    while hasattr(model, name):
        name += "_"
    setattr(model, name, nn.Parameter(value.detach(), requires_grad=False))
    with node.graph.inserting_before(node):
        return node.graph.get_attr(name)


def _observed(model: GraphModule, node: Node, source: Node, observed: Node) -> Node:
    """Return a call of a separate copy of an observer, on another source."""
    name = f"{source.target}_observer"
    model.add_submodule(name, copy.deepcopy(model.get_submodule(str(observed.target))))
    with node.graph.inserting_before(node):
        made = node.graph.call_module(name, (source,))
    made.meta = {**observed.meta}
    return made


def _erase_unused(model: GraphModule, *nodes: Any) -> None:
    """Erase nodes without users, and the tensors that no other node reads."""
    for node in dict.fromkeys(nodes):
        if isinstance(node, Node) and not node.users:
            node.graph.erase_node(node)
            if node.op == "get_attr" and all(n.target != node.target for n in node.graph.nodes):
                owner, _, name = str(node.target).rpartition(".")
                delattr(model.get_submodule(owner), name)


def _write_range(model: GraphModule, node: Node, low: Tensor, high: Tensor) -> None:
    """Replace the observers of a value, for all values that share them."""
    called = observers(model)
    mine = [called[user] for user in node.users if user in called]
    if not mine:
        raise AlgorithmError(f"it changes the range of {node.name!r}, which has no observer")
    for observer in mine:
        fixed = with_range(observer, low, high)
        for user, each in called.items():
            if each is observer:
                model.add_submodule(str(user.target), fixed)


def _write_scale(model: GraphModule, node: Node, scale: Tensor, readers: tuple[str, ...]) -> None:
    users = [user for user in node.users if not readers or user.name in readers]
    missing = set(readers) - {user.name for user in users}
    if missing:
        raise AlgorithmError(
            f"{min(missing)!r} does not read {node.name!r}, whose scale it changes"
        )
    with node.graph.inserting_after(node):
        factor = _attribute(model, users[0], scale, f"{node.name}_scale")
    value = node.meta["val"]
    factor.meta = {"nn_module_stack": node.meta.get("nn_module_stack")}
    factor.meta["val"] = value.fake_mode.from_tensor(scale)
    with node.graph.inserting_before(users[0]):
        scaled = node.graph.call_function(torch.ops.aten.mul.Tensor, (node, factor))
    kept = {key: each for key, each in node.meta.items() if key != EXPORTED}
    reason = f"restores the scale of {node.name}"
    scaled.meta = {**kept, "val": value, IN_FLOAT: reason, INSERTED: True}
    for user in users:
        user.replace_input_with(node, scaled)
