"""Names that OpenVINO keeps private, in the one place that knows them.

Each with the version it was seen in; ``tests/test_openvino_compat.py`` notices when one moves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

# openvino 2025.4.1: the plugin compiles small linear layers in a row to one kernel, a snippet,
# which is wrong where all elements of a bias are equal. Programs are as fast without.
WITHOUT_SNIPPETS = {"SNIPPETS_MODE": "DISABLE"}
NO_RULE = re.compile(r"No conversion rule found for operations: (.*)")  # openvino 2025.4.1


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """The program in the operators that OpenVINO's frontend converts."""
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
    """What ``openvino.convert_model`` reads a graph with; it makes it of programs itself."""
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder  # openvino 2025.4.1

    return TorchFXPythonDecoder(model, dynamic_shapes=True)


def fx_node_name(operation: Any) -> str:
    """The name of the node in torch's graph that an operation was made of, or another name."""
    # openvino 2025.4.1: the decoder names operations "conv2d/aten.conv2d.default/Convolution".
    name: str = operation.get_friendly_name()
    head, slash, _ = name.partition("/")
    return head if slash else ""


def unconverted(error: BaseException) -> list[str]:
    """The operators that the frontend has no conversion for, out of what it raised."""
    found = NO_RULE.search(str(error))
    return found[1].split(", ") if found else []


def layer(operation: Any) -> Mapping[str, str]:
    """What a compiled model tells of a kernel: its type, its precisions, what it was made of."""
    # openvino 2025.4.1: ExecModelInfo's names.
    told = operation.get_rt_info()
    keys = ("layerType", "primitiveType", "outputPrecisions", "originalLayersNames")
    return {key: told[key].astype(str) if key in told else "" for key in keys}
