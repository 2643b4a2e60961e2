"""Private names of OpenVINO, used in this module only.

Each name is listed with the version that it was verified in. ``tests/test_openvino_compat.py``
fails if one is moved or renamed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

# openvino 2025.4.1 and 2026.4.1; the second line names operators with a conversion that failed.
NOT_CONVERTED = re.compile(
    r"(?:No conversion rule found for operations|Conversion is failed for): (.*)"
)
QUANTIZE = "FakeQuantize"


def decomposed(program: ExportedProgram, whole: Set[Any] = frozenset()) -> ExportedProgram:
    """Decompose a program into the operators that OpenVINO's frontend converts, and ``whole``."""
    import torch
    from openvino.frontend.pytorch.torchdynamo.decompositions import (
        ops_to_not_decompose,  # openvino 2026.4.1
    )

    kept = {*ops_to_not_decompose(), *whole}
    table: Any = torch.export.default_decompositions()
    wanted = {op: how for op, how in table.items() if op not in kept}
    made: ExportedProgram = program.run_decompositions(wanted)
    return made


def converted(model: GraphModule) -> Any:
    """Convert a graph as ``openvino.convert_model`` does, and keep the names of fused operations.

    ``convert_model`` drops the names of the operations that its transformations replace.
    """
    from openvino._offline_transformations import (  # openvino 2026.4.1
        apply_moc_transformations,
        compress_quantize_weights_transformation,
    )
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder  # openvino 2026.4.1

    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchFXPythonDecoder(model, dynamic_shapes=True)  # the frontend does not keep it
    made = frontend.convert(frontend.load(decoder))
    apply_moc_transformations(made, cf=False, smart_reshape=True)
    compress_quantize_weights_transformation(made)
    return made


def fx_node_names(operation: Any) -> list[str]:
    """Return the name of the torch node that an operation was converted from.

    An operation that a transformation of OpenVINO added has the names of those that it replaces.
    """
    # openvino 2026.4.1: the decoder names operations "conv2d/aten.conv2d.default/Convolution".
    name, told = operation.get_friendly_name(), operation.get_rt_info()
    fused = told["fused_names_0"].astype(str).split(",") if "fused_names_0" in told else []
    kind = operation.get_type_name()
    if name.endswith(f"/{QUANTIZE}") and kind != QUANTIZE:
        # openvino 2026.4.1 moves a transpose downstream of a quantization, whose name it takes.
        found = [each for each in fused if each.endswith(f"/{kind}")] or [name]
    else:
        found = [name] if "/" in name else fused
    return [each.partition("/")[0] for each in found if "/" in each]


def drop_fused_names(model: Any) -> None:
    """Drop the names of fused operations, whose numbers differ in each conversion."""
    from openvino._offline_transformations import apply_fused_names_cleanup  # openvino 2026.4.1

    apply_fused_names_cleanup(model)


def unconverted(error: BaseException) -> list[str]:
    """Return the operators without a conversion, parsed from the frontend's error."""
    found = NOT_CONVERTED.findall(str(error))
    return [each for names in found for each in names.split(", ")]


def layer(operation: Any) -> Mapping[str, str]:
    """Return the kernel info in a compiled model: layer type, precisions and original layers."""
    # openvino 2026.4.1: ExecModelInfo's names.
    told = operation.get_rt_info()
    keys = ("layerType", "primitiveType", "outputPrecisions", "originalLayersNames")
    return {key: told[key].astype(str) if key in told else "" for key in keys}
