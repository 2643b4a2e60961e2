"""Names that torch keeps private, in the one place that knows them.

Each with the version it was seen in; ``tests/test_onnxruntime_compat.py`` notices when one moves.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAME_SCOPES = "pkg.torch.onnx.name_scopes"  # torch 2.13.0
NO_FUNCTION = re.compile(r"No ONNX function found for <OpOverload\(op='(.*?)', overload='(.*?)'\)>")
READ = "from_torchlib"  # torch 2.13.0: the method of ONNXRegistry that makes the table
TABLES: dict[tuple[int, int], Any] = {}  # of translations, by opset and number of operators


def fx_node_name(node: Any) -> str | None:
    """The name that a node of an exported model had in torch's graph."""
    for entry in node.metadata_props:
        if entry.key == NAME_SCOPES:
            return str(ast.literal_eval(entry.value)[-1])
    return None


def untranslated(error: BaseException) -> list[str]:
    """The operators that torch.onnx has no translation for, out of what it raised."""
    found: dict[str, None] = {}
    cause: BaseException | None = error
    while cause is not None:
        for name, overload in NO_FUNCTION.findall(str(cause)):  # torch 2.13.0
            found[f"{name.replace('::', '.')}.{overload}"] = None
        cause = cause.__cause__
    return list(found)


@contextmanager
def translations_read_once() -> Iterator[None]:
    """Lets ``torch.onnx`` keep its table of translations between exports.

    torch 2.13.0 parses the sources of 500 translations anew for each export, which is half of its
    time. Each export has a copy of the table, to which it may add.
    """
    import torch
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    own, read = vars(ONNXRegistry)[READ], ONNXRegistry.from_torchlib

    def copied(opset_version: int) -> Any:
        # A table has the operators that are registered by then: a package may bring more.
        key = opset_version, len(torch._C._dispatch_get_all_op_names())
        if key not in TABLES:
            TABLES[key] = read(opset_version)
        known, registry = TABLES[key], ONNXRegistry()
        registry._opset_version = known._opset_version
        registry.functions = {target: list(found) for target, found in known.functions.items()}
        return registry

    setattr(ONNXRegistry, READ, staticmethod(copied))
    try:
        yield
    finally:
        setattr(ONNXRegistry, READ, own)
