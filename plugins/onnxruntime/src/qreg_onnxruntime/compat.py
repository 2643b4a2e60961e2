"""Private names of torch, used in this module only.

Each name is listed with the version that it was verified in.
``tests/test_onnxruntime_compat.py`` fails if one is moved or renamed.
"""

from __future__ import annotations

import ast
import re
from contextlib import AbstractContextManager
from typing import Any

from qreg.backends.patching import patched

NAME_SCOPES = "pkg.torch.onnx.name_scopes"  # torch 2.13.0
NO_FUNCTION = re.compile(r"No ONNX function found for <OpOverload\(op='(.*?)', overload='(.*?)'\)>")
READ = "from_torchlib"  # torch 2.13.0: the method of ONNXRegistry that makes the table
TABLES: dict[tuple[int, int], Any] = {}  # of translations, by opset and number of operators


def fx_node_name(node: Any) -> str | None:
    """Return the name of the torch node that a node of an exported model comes from, or None."""
    for entry in node.metadata_props:
        if entry.key == NAME_SCOPES:
            return str(ast.literal_eval(entry.value)[-1])
    return None


def untranslated(error: BaseException) -> list[str]:
    """Return the operators without a translation, parsed from the error of torch.onnx."""
    found: dict[str, None] = {}
    cause: BaseException | None = error
    while cause is not None:
        for name, overload in NO_FUNCTION.findall(str(cause)):  # torch 2.13.0
            found[f"{name.replace('::', '.')}.{overload}"] = None
        cause = cause.__cause__
    return list(found)


def translations_read_once() -> AbstractContextManager[None]:
    """Cache the table of translations of ``torch.onnx`` between exports.

    torch 2.13.0 parses the sources of 500 translations for each export, which takes half of the
    export's time. Each export uses a copy of the table and may add translations to the copy.
    """
    import torch
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read = ONNXRegistry.from_torchlib

    def copied(opset_version: int) -> Any:
        # A table has the operators registered at that time; a package may register more later.
        key = opset_version, len(torch._C._dispatch_get_all_op_names())
        if key not in TABLES:
            TABLES[key] = read(opset_version)
        known, registry = TABLES[key], ONNXRegistry()
        registry._opset_version = known._opset_version
        registry.functions = {target: list(found) for target, found in known.functions.items()}
        return registry

    return patched((ONNXRegistry, READ, lambda _: staticmethod(copied)))
