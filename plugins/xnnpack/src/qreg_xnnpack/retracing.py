"""Skip the retracing, and the check of dtypes, of a graph that has not changed since the last.

Most passes of the delegate and of executorch (1.4.1) trace the whole graph again after their work,
although most of them change nothing in most models. An unchanged graph traces to itself, so the
pass can return it as it is. The check after each pass runs all operators on fake tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from qreg.backends.patching import patched
from qreg_xnnpack.compat import dtype_check, export_pass

if TYPE_CHECKING:
    from torch.fx import Graph, GraphModule


def traced_once() -> AbstractContextManager[None]:
    """Patch ``call`` of the base class of the passes, which traces, during a lowering."""
    return patched((export_pass().__mro__[1], "call", _unless_traced))


def checked_once() -> AbstractContextManager[None]:
    """Patch the check of the dtypes of a graph's operators, during a lowering."""
    return patched((*dtype_check(), _unless_checked))


def _unless_checked(check: Callable[..., None]) -> Callable[..., None]:
    checked: list[Any] = []  # the content of the last graph that passed

    def replacement(graph_module: GraphModule) -> None:
        if checked != (content := _content(graph_module.graph)):
            check(graph_module)
            checked[:] = content

    return replacement


def _unless_traced(call: Callable[..., Any]) -> Callable[..., Any]:
    from torch.fx.passes.infra.pass_base import PassResult

    traced: list[Any] = []  # the content of the last graph, as it was traced

    def replacement(itself: Any, graph_module: GraphModule) -> Any:
        if traced == _content(graph_module.graph) and not _maps_operators(type(itself)):
            return PassResult(graph_module, True)
        result = call(itself, graph_module)
        traced[:] = _content(result.graph_module.graph)
        return result

    return replacement


def _content(graph: Graph) -> list[Any]:
    """Return what both depend on: the nodes of a graph, their arguments and their values."""
    return [
        (node, node.target, node.args, node.kwargs, id(node.meta.get("val")))
        for node in graph.nodes
    ]


def _maps_operators(kind: type) -> bool:
    """Whether a pass replaces operators while it traces, not in the graph ahead of tracing."""
    base = export_pass()
    hooks = {
        name for each in base.__mro__[:2] for name, value in vars(each).items() if callable(value)
    }
    return any(
        getattr(kind, name) is not getattr(base, name) for name in hooks - {"__init__", "call"}
    )
