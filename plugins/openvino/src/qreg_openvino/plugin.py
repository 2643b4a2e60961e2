"""The backend that this distribution registers with qreg."""

from __future__ import annotations

from qreg import Backend, BackendPlugin, Files, Option, Requirement
from qreg.graph.recurrence import with_whole_recurrence
from qreg.graph.transposing import with_linears
from qreg_openvino.annotators import ANNOTATORS
from qreg_openvino.config import refuses, supported_configs
from qreg_openvino.container import WEIGHTS, join, split
from qreg_openvino.group_scales import with_stored_scales
from qreg_openvino.lowering import lower
from qreg_openvino.runtime import PRECISIONS, load
from qreg_openvino.transforms import transform

WHOLE = (
    "OpenVINO's recurrent operators run a whole layer in float, about as fast as its steps in "
    "int8: leave it whole, or run the model on xnnpack, which has its matrix products in int8"
)
OPENVINO = Backend(
    name="openvino",
    summary="int8 on CPUs, as an OpenVINO model",
    default_config="int8_static_per_channel",
    reduced_config="int8_static_per_channel_reduced",
    runtime="OpenVINO on the CPU",
    suffix=".xml",
    # 2026.5 drops the table of decompositions that ``compat`` reads.
    requires=(Requirement("openvino", "openvino>=2025.4,<2026.5"),),
    options=(
        Option(
            "precision",
            "f32",
            "dtype of operators that are not int8 (OpenVINO's default: bf16 if supported)",
            choices=PRECISIONS,
            at="load",
        ),
        Option("threads", 0, "number of runtime threads (0: the runtime decides)", at="load"),
    ),
    refuses=refuses,
    transforms=(with_whole_recurrence(WHOLE), transform, with_linears("weight")),
    finish=with_stored_scales,
    fold_quantize=False,  # OpenVINO's frontend expects float weights with their quantization
    stateless="an OpenVINO program keeps no state from one run to the next",
    reproducible=True,
    load=load,
    quantized_io=True,
    files=Files((WEIGHTS,), split, join),
)

PLUGIN = BackendPlugin(OPENVINO, supported_configs, annotators=ANNOTATORS, lower=lower)
