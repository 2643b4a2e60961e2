"""Private names of OpenVINO, used in this module only.

Each name is listed with the version that it was verified in. ``tests/test_openvino_compat.py``
fails if one is moved or renamed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

# openvino 2025.4.1: the plugin compiles consecutive small linear layers to one kernel, a snippet.
# The snippet is wrong if all elements of a bias are equal. Programs are as fast without snippets.
WITHOUT_SNIPPETS = {"SNIPPETS_MODE": "DISABLE"}
NO_RULE = re.compile(r"No conversion rule found for operations: (.*)")  # openvino 2025.4.1


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """Decompose a program into the operators that OpenVINO's frontend converts."""
    import torch
    from openvino.frontend.pytorch.torchdynamo.decompositions import (
        ops_to_not_decompose,  # openvino 2025.4.1
    )

    kept = ops_to_not_decompose()
    table: Any = torch.export.default_decompositions()
    wanted = {op: how for op, how in table.items() if op not in kept}
    made: ExportedProgram = program.run_decompositions(wanted)
    return made


def decoder(model: GraphModule) -> Any:
    """Return the decoder that ``openvino.convert_model`` reads a graph with.

    For an exported program, ``convert_model`` creates the decoder itself.
    """
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder  # openvino 2025.4.1

    return TorchFXPythonDecoder(model, dynamic_shapes=True)


def fx_node_name(operation: Any) -> str:
    """Return the name of the torch node that an operation was converted from.

    For an operation without such a node, the name is not that of a node.
    """
    # openvino 2025.4.1: the decoder names operations "conv2d/aten.conv2d.default/Convolution".
    name: str = operation.get_friendly_name()
    head, slash, _ = name.partition("/")
    return head if slash else ""


def unconverted(error: BaseException) -> list[str]:
    """Return the operators without a conversion, parsed from the frontend's error."""
    found = NO_RULE.search(str(error))
    return found[1].split(", ") if found else []


def layer(operation: Any) -> Mapping[str, str]:
    """Return the kernel info in a compiled model: layer type, precisions and original layers."""
    # openvino 2025.4.1: ExecModelInfo's names.
    told = operation.get_rt_info()
    keys = ("layerType", "primitiveType", "outputPrecisions", "originalLayersNames")
    return {key: told[key].astype(str) if key in told else "" for key in keys}
