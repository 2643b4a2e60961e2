"""Hashes of what the trials of a search depend on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from types import CodeType
from typing import Any

from torch.export import ExportedProgram
from torch.fx import GraphModule

from qreg.inputs.fingerprint import hash_of


def of_program(program: ExportedProgram) -> str:
    """Return a hash of the graph and the tensors of an exported program."""
    return _of(program.graph_module, {**program.state_dict, **program.constants})


def of_graph(model: GraphModule, backend: str) -> str:
    """Return a hash of a backend, a graph and its tensors; two graphs with it lower alike."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return hash_of([backend, _of(model, tensors)])


def _of(model: GraphModule, tensors: Mapping[str, Any]) -> str:
    """Return a hash of the tensors of a graph, its operators, and those in bodies of loops."""
    graphs = [str(each.graph) for each in model.modules() if isinstance(each, GraphModule)]
    return hash_of([*graphs, dict(sorted(tensors.items()))])


def of_function(function: Any) -> str:
    """Return the name of a function, with a hash of its code where it has any.

    Of a partial or decorated function, and of an object that is called, it is the function within.
    """
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    named = function if hasattr(function, "__qualname__") else type(function)
    name = f"{getattr(named, '__module__', '')}:{named.__qualname__}"
    code = getattr(function if named is function else named.__call__, "__code__", None)
    return name if code is None else f"{name} {hash_of(_plain(code))}"


def _plain(value: Any) -> Any:
    """Return code, or a constant of it, as plain values that are the same in each process."""
    if isinstance(value, CodeType):
        return [value.co_code.hex(), value.co_names, [_plain(each) for each in value.co_consts]]
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, frozenset):  # its order differs from process to process
        return sorted(repr(each) for each in value)
    return repr(value)
