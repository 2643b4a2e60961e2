"""Names that torch keeps private, in the one place that knows them.

Each with the version it was seen in; ``tests/test_onnxruntime_compat.py`` notices when one moves.
"""

from __future__ import annotations

import ast
import re
from typing import Any

NAME_SCOPES = "pkg.torch.onnx.name_scopes"  # torch 2.13.0
NO_FUNCTION = re.compile(r"No ONNX function found for <OpOverload\(op='(.*?)', overload='(.*?)'\)>")


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
