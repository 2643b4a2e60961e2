"""Track the operator of the annotated graph that a node comes from, across repeated exports.

The operator's name is stored in torch's custom metadata of the node. This metadata survives
conversion, export, decomposition and lowering, while the names of the nodes do not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qreg.graph.layers import row_of
from qreg.plugins.operator_names import operator_name

if TYPE_CHECKING:
    from torch.fx import Graph, Node


CUSTOM, KEY, NUMBER = "custom", "qreg", "#"
GENERATED = "<eval_with_key>"
FRAME = re.compile(r'File "(.*?)", line (\d+), in (\S+)\n(.*)')
EXPORTED = "qreg_exported"
FOLDED = "qreg_folded"


def remember_operators(graph: Graph) -> None:
    """Store the operator that each node calls in its metadata, which rewrites copy.

    A scope for ``div`` then covers the multiplication that a transform turns a division into.
    """
    for node in graph.nodes:
        if node.op == "call_function":
            node.meta.setdefault(EXPORTED, operator_name(node.target))


def operators_of(node: Node) -> list[str]:
    """Return the operator that a node calls, and the one that it was rewritten from, if any."""
    name = operator_name(node.target)
    return list(dict.fromkeys((name, node.meta.get(EXPORTED, name))))


def mark(graph: Graph, prefix: str = "") -> None:
    """Store the name of each operator of a graph in the operator's metadata.

    The operators of one row of reports, such as the gates of a recurrent layer, share a name.
    ``prefix`` distinguishes the operators of a body, such as that of a scan, from the operators of
    the enclosing graph.
    """
    from torch._ops import HigherOrderOperator, OpOverload

    for node in graph.nodes:
        if isinstance(node.target, (OpOverload, HigherOrderOperator)):
            node.meta[CUSTOM] = {**node.meta.get(CUSTOM, {}), KEY: f"{prefix}{row_of(node)}"}


def origin(node: Node) -> str | None:
    """Return the operator's name in the annotated graph; None for a node that was not in it."""
    found: str | None = node.meta.get(CUSTOM, {}).get(KEY)
    return found


def numbered(graph: Graph) -> dict[Node, str]:
    """Return a separate name for each operator with an origin, the same in copies of a graph.

    Operators of one origin are numbered in the order of the graph: ``gru``, ``gru#1``, ``gru#2``.
    """
    seen = Counter[str]()
    found: dict[Node, str] = {}
    for node in graph.nodes:
        name = origin(node)
        if name is not None:
            found[node] = f"{name}{NUMBER}{seen[name]}" if seen[name] else name
            seen[name] += 1
    return found


def row(name: str) -> str:
    """Return the name that a numbered operator shares with others."""
    return name.partition(NUMBER)[0]


def producer(node: Node) -> Node:
    """Return the operator that produces a node's first operand, through nodes without an origin.

    An input or constant of the graph if there is no such operator.
    """
    while node.all_input_nodes:
        node = node.all_input_nodes[0]
        if origin(node) is not None:
            break
    return node


def described(node: Node) -> str:
    """Describe an operator or input for errors: ``aten.add.Tensor (add_1) in module 'head'``."""
    if node.op == "placeholder":
        return f"the input {node.name!r}"
    return f"{node.target} ({node.name}){in_module(node)}"


def in_module(node: Node) -> str:
    """Describe a node's module for errors, ``" in module 'head'"``; empty for the model itself."""
    path = module_path(node)
    return f" in module {path!r}" if path else ""


def in_code(node: Node) -> str:
    """Describe where the user's code calls an operator, ``", called at net.py:7 in forward: y+1"``.

    Empty if torch did not record it, as for the body of a loop. Frames of torch, and of the code
    that fx generates, are left out.
    """
    import torch

    library = str(Path(torch.__file__).parent)
    frames = FRAME.findall(node.meta.get("stack_trace") or "")
    own = [each for each in frames if not each[0].startswith((library, GENERATED))]
    if not own:
        return ""
    file, line, function, code = own[-1]
    return f", called at {file}:{line} in {function}: {code.strip()}"


def module_stack(node: Node) -> list[tuple[str, str]]:
    """Return the path (as in the user's code) and type of a node's modules, outermost first."""
    stack = node.meta.get("nn_module_stack") or {}
    return [(_plain(path), type_name(type_)) for path, type_ in stack.values()]


def module_path(node: Node) -> str:
    """Return the path of the innermost module of a node; ``""`` is the model itself."""
    stack = node.meta.get("nn_module_stack")
    return _plain(next(reversed(stack.values()))[0]) if stack else ""


def remember_folded(layer: Node, gone: Iterable[Node]) -> None:
    """Store the modules of nodes that are folded into a layer in the layer's metadata."""
    paths = [path for node in gone for path in (module_path(node), *folded_modules(node))]
    layer.meta[FOLDED] = tuple(dict.fromkeys((*folded_modules(layer), *paths)))


def folded_modules(layer: Node) -> tuple[str, ...]:
    """Return the paths of the modules whose operators a layer computes in addition to its own."""
    found: tuple[str, ...] = layer.meta.get(FOLDED, ())
    return found


def type_name(type_: Any) -> str:
    """Return a type's name in the notation of torch.export's graphs."""
    return type_ if isinstance(type_, str) else f"{type_.__module__}.{type_.__qualname__}"


def _plain(path: str) -> str:
    # Graphs of older captures have paths like L['self'].blocks.0.
    return path.removeprefix("L['self']").removeprefix(".")
