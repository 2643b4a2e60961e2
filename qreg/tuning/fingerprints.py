"""Hashes of what the trials of a search depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from types import CodeType
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule


def of_program(program: ExportedProgram) -> str:
    """Return a hash of the graph and the tensors of an exported program."""
    return _of(program.graph_module.graph, {**program.state_dict, **program.constants})


def of_graph(model: GraphModule) -> str:
    """Return a hash of a graph and its tensors; two converted graphs with it lower alike."""
    return _of(model.graph, {**dict(model.named_parameters()), **dict(model.named_buffers())})


def _of(graph: Graph, tensors: Mapping[str, Any]) -> str:
    found = hashlib.sha256(str(graph).encode())
    for name in sorted(tensors):
        found.update(name.encode())
        _add(found, tensors[name])
    return found.hexdigest()[:16]


def of_values(values: Iterable[Any]) -> str:
    """Return a hash of tensors and plain values, in their order."""
    found = hashlib.sha256()
    for value in values:
        _add(found, value)
    return found.hexdigest()[:16]


def of_function(function: Any) -> str:
    """Return the name of a function, with a hash of its code where it has any."""
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
    code = getattr(function, "__code__", None)
    if code is None:
        return name if name != ":" else type(function).__qualname__
    constants = [each for each in code.co_consts if not isinstance(each, CodeType)]
    found = hashlib.sha256(repr((code.co_code, code.co_names, constants)).encode())
    return f"{name} {found.hexdigest()[:16]}"


def _add(found: Any, value: Any) -> None:
    if not isinstance(value, Tensor):
        found.update(repr(value).encode())
        return
    found.update(f"{value.dtype} {tuple(value.shape)}".encode())
    plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    found.update(plain.numpy().data)
