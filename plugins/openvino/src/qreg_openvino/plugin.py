"""What this distribution answers to qreg's hooks."""

from __future__ import annotations

from qreg import Backend, BackendPlugin, Files, Option, Requirement
from qreg_openvino.annotators import ANNOTATORS
from qreg_openvino.config import LIMITS, supported_configs
from qreg_openvino.container import WEIGHTS, join, split
from qreg_openvino.lowering import lower
from qreg_openvino.runtime import PRECISIONS, load
from qreg_openvino.transforms import transform

OPENVINO = Backend(
    name="openvino",
    summary="int8 on CPUs, as an OpenVINO model",
    default_config="int8_static_per_channel",
    reduced_config="int8_static_per_channel_reduced",
    runtime="OpenVINO on the CPU",
    suffix=".xml",
    # openvino 2026 is untested here, and crashes beside ExecuTorch's OpenVINO backend (1.4.1).
    requires=(Requirement("openvino", "openvino>=2025.4,<2026"),),
    options=(
        Option(
            "precision",
            "f32",
            "what is not int8 is computed in; the runtime's own choice is bf16 where there is it",
            choices=PRECISIONS,
            at="load",
        ),
        Option("threads", 0, "the threads of the runtime; 0 leaves them to it", at="load"),
    ),
    refuses=LIMITS,
    transforms=(transform,),
    fold_quantize=False,  # OpenVINO's frontend takes weights with their quantization
    stateless="an OpenVINO program keeps nothing from one run to the next",
    load=load,
    files=Files((WEIGHTS,), split, join),
)

PLUGIN = BackendPlugin(OPENVINO, supported_configs, annotators=ANNOTATORS, lower=lower)
