"""Hashes of what the trials of a search depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import CodeType
from typing import Any

from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule

from qreg.inputs.fingerprint import hash_of


def of_program(program: ExportedProgram) -> str:
    """Return a hash of the graph and the tensors of an exported program."""
    return _of(program.graph_module.graph, {**program.state_dict, **program.constants})


def of_graph(model: GraphModule) -> str:
    """Return a hash of a graph and its tensors; two converted graphs with it lower alike."""
    return _of(model.graph, {**dict(model.named_parameters()), **dict(model.named_buffers())})


def _of(graph: Graph, tensors: Mapping[str, Any]) -> str:
    return hash_of([str(graph), dict(sorted(tensors.items()))])


def of_function(function: Any) -> str:
    """Return the name of a function, with a hash of its code where it has any."""
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
    code = getattr(function, "__code__", None)
    if code is None:
        return name if name != ":" else type(function).__qualname__
    constants = [each for each in code.co_consts if not isinstance(each, CodeType)]
    found = hashlib.sha256(repr((code.co_code, code.co_names, constants)).encode())
    return f"{name} {found.hexdigest()}"
