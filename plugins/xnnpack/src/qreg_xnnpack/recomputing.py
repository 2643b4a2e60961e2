"""Compute the fake result of a call, and decompose a program, once during a lowering.

Each pass of the delegate and of executorch (1.4.1) that traces a graph again, and each check of
dtypes, runs all operators on fake tensors, in a quarter of the time. The inputs are mostly the
tensors that the pass before returned. An equal call on them has an equal result.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from qreg.backends.patching import patched
from qreg_xnnpack.compat import edge_operator_class

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule


class UncomparableError(TypeError):
    """An argument whose value a key cannot hold, such as a tensor with data or a symbolic size."""


def computed_once() -> AbstractContextManager[None]:
    """Patch the call of an operator to return the result of an equal call on fake tensors."""
    return patched((edge_operator_class(), "__call__", _unless_computed))


def decomposed_once() -> AbstractContextManager[None]:
    """Patch ``run_decompositions`` to return its last result if that has nothing to decompose."""
    from torch.export import ExportedProgram

    return patched((ExportedProgram, "run_decompositions", _unless_decomposed))


def _unless_computed(call: Callable[..., Any]) -> Callable[..., Any]:
    from torch.fx.experimental.proxy_tensor import get_proxy_mode

    computed: dict[Any, Any] = {}  # with the arguments, whose identities are not reused then

    def replacement(operator: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            key = (operator, *_key(args), *kwargs, *_key([*kwargs.values()]))
        except UncomparableError:
            return call(operator, *args, **kwargs)
        # A call that is traced has to be recorded.
        if not _has_fake(args) or not _is_function(operator) or get_proxy_mode() is not None:
            return call(operator, *args, **kwargs)
        if key not in computed:
            computed[key] = call(operator, *args, **kwargs), args, kwargs
        return computed[key][0]

    return replacement


def _key(arguments: Any) -> tuple[Any, ...]:
    """Return what the fake result of a call depends on: identities of fake tensors, other values.

    Raises ``UncomparableError``.
    """
    return tuple(map(_part, arguments))


def _part(value: Any) -> Any:
    import torch
    from torch._subclasses import FakeTensor

    if isinstance(value, FakeTensor):
        return FakeTensor, id(value)
    if isinstance(value, (list, tuple)):
        return _key(value)
    plain = (bool, int, float, str, type(None))
    settings = (torch.dtype, torch.device, torch.layout, torch.memory_format)
    if isinstance(value, (*plain, *settings)):
        return type(value), value
    raise UncomparableError


def _has_fake(args: tuple[Any, ...]) -> bool:
    """Whether a call has a fake tensor, and so belongs to the fake mode of the tensor."""
    from torch._subclasses import FakeTensor

    listed = (each if isinstance(each, (list, tuple)) else (each,) for each in args)
    return any(isinstance(each, FakeTensor) for values in listed for each in values)


def _is_function(operator: Any) -> bool:
    """Whether an operator changes nothing, and returns shapes that do not depend on values."""
    from torch import Tag

    on_values = {Tag.dynamic_output_shape, Tag.data_dependent_output}
    return not operator._op._schema.is_mutable and on_values.isdisjoint(operator._op.tags)


def _unless_decomposed(decompose: Callable[..., ExportedProgram]) -> Callable[..., ExportedProgram]:
    last: list[ExportedProgram] = []

    def replacement(program: ExportedProgram, table: Any = None, **options: Any) -> ExportedProgram:
        if table is not None and last == [program] and not _has_any(program.graph_module, table):
            return program
        last[:] = [decompose(program, table, **options)]
        return last[0]

    return replacement


def _has_any(module: GraphModule, table: Any) -> bool:
    """Whether a graph, or the body of a loop or branch in it, calls an operator of a table."""
    from torch.fx import GraphModule

    graphs = (each.graph for each in module.modules() if isinstance(each, GraphModule))
    return any(node.target in table for graph in graphs for node in graph.nodes)
