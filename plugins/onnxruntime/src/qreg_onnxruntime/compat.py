"""Private names of torch, used in this module only.

Each name is listed with the version that it was verified in.
``tests/test_onnxruntime_compat.py`` fails if one is moved or renamed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from qreg.backends.patching import patched

if TYPE_CHECKING:
    from torch.export import ExportedProgram

NAME_SCOPES = "pkg.torch.onnx.name_scopes"  # torch 2.13.0
NO_FUNCTION = re.compile(r"No ONNX function found for <OpOverload\(op='(.*?)', overload='(.*?)'\)>")
# torch 2.13.0: the error for prims.copy_to, which these two are decomposed to.
NOT_FUNCTIONAL = "aot_autograd expected to have an entirely functional graph"
WRITES_TO_VIEWS = ("aten.diagonal_scatter.default", "aten.as_strided_scatter.default")
PROMOTING = "insert_type_promotion_nodes"  # torch 2.13.0
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
        if NOT_FUNCTIONAL in str(cause):
            found |= dict.fromkeys(WRITES_TO_VIEWS)
        cause = cause.__cause__
    return list(found)


def decomposed(program: ExportedProgram, opset: int) -> ExportedProgram:
    """Decompose a program to the operators that torch.onnx translates, as it does itself."""
    from torch.onnx._internal.exporter import _decomp
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    registered = _decomp.get_onnx_implemented_overloads(ONNXRegistry.from_torchlib(opset))
    table = _decomp.create_onnx_friendly_decomposition_table(set(registered))
    made: ExportedProgram = program.run_decompositions(table)
    return made


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


def views_of_any_strides() -> AbstractContextManager[None]:
    """Make views reshapes while ``torch.onnx`` runs a program on fake tensors, once decomposed.

    torch 2.13.0 then computes other strides for an attention than in the decomposition, and a view
    of its result, as the encoder of T5 has it, does not fit them.
    """
    from torch.onnx._internal.exporter import _fx_passes

    return patched((_fx_passes, PROMOTING, _with_reshapes))


def _with_reshapes(promote: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import torch

    aten = torch.ops.aten

    def replacement(model: Any) -> Any:
        for node in model.graph.find_nodes(op="call_function", target=aten.view.default):
            node.target = aten.reshape.default
        return promote(model)

    return replacement
