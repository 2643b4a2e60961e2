"""Which operator of the annotated graph a node comes from, however often it was exported since.

The name is kept where torch keeps what users note down of a node: it survives conversion, export,
decomposition and lowering, while the names of the nodes themselves do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.fx import Graph, Node


CUSTOM, KEY = "custom", "qreg"


def mark(graph: Graph, prefix: str = "") -> None:
    """Notes down, in each operator of a graph, what it is called there.

    ``prefix`` tells the operators of a body, as of a scan, from those of the graph around it.
    """
    from torch._ops import HigherOrderOperator, OpOverload

    for node in graph.nodes:
        if isinstance(node.target, (OpOverload, HigherOrderOperator)):
            node.meta[CUSTOM] = {**node.meta.get(CUSTOM, {}), KEY: f"{prefix}{node.name}"}


def origin(node: Node) -> str | None:
    """The name that the operator had in the annotated graph; None for what was not in it."""
    found: str | None = node.meta.get(CUSTOM, {}).get(KEY)
    return found


def producer(node: Node) -> Node:
    """The operator that gives a node its first operand, through nodes without an origin.

    An input or constant of the graph where there is none.
    """
    while node.all_input_nodes:
        node = node.all_input_nodes[0]
        if origin(node) is not None:
            break
    return node


def described(node: Node) -> str:
    """An operator or an input as errors name it: ``aten.add.Tensor (add_1) in module 'head'``."""
    if node.op == "placeholder":
        return f"the input {node.name!r}"
    return f"{node.target} ({node.name}){in_module(node)}"


def in_module(node: Node) -> str:
    """The module of a node in a clause for errors, ``" in module 'head'"``; empty for the model."""
    path = module_path(node)
    return f" in module {path!r}" if path else ""


def module_stack(node: Node) -> list[tuple[str, str]]:
    """The modules a node comes from, outermost first: path as the user writes it, and type."""
    stack = node.meta.get("nn_module_stack") or {}
    return [(_plain(path), type_name(type_)) for path, type_ in stack.values()]


def module_path(node: Node) -> str:
    """The path of the innermost module a node comes from; ``""`` is the model itself."""
    stack = node.meta.get("nn_module_stack")
    return _plain(next(reversed(stack.values()))[0]) if stack else ""


def type_name(type_: Any) -> str:
    """A type's name as torch.export writes it into its graphs."""
    return type_ if isinstance(type_, str) else f"{type_.__module__}.{type_.__qualname__}"


def _plain(path: str) -> str:
    # Graphs of older captures spell a path as L['self'].blocks.0.
    return path.removeprefix("L['self']").removeprefix(".")
