"""The backend that this distribution registers with qreg."""

from __future__ import annotations

from qreg import Backend, BackendPlugin, Option, Requirement
from qreg.graph.recurrence import with_whole_recurrence
from qreg.graph.rewrites import separate_odd_biases, simplified
from qreg.graph.transposing import with_linears
from qreg_onnxruntime.annotators import ANNOTATORS
from qreg_onnxruntime.clamps import clamped_first
from qreg_onnxruntime.config import refuses, supported_configs
from qreg_onnxruntime.lowering import lower
from qreg_onnxruntime.profiling import profile
from qreg_onnxruntime.runtime import load

WHOLE = (
    "ONNX Runtime's recurrent operators run a whole layer in float, in half of the time that its "
    "steps take in int8: leave it whole"
)
ONNXRUNTIME = Backend(
    name="onnxruntime",
    summary="uint8 on CPUs, as an ONNX model for ONNX Runtime",
    default_config="uint8_static_per_channel",
    reduced_config="uint8_static_per_channel_reduced",
    runtime="ONNX Runtime on the CPU",
    suffix=".onnx",
    requires=(
        Requirement("onnxruntime", "onnxruntime>=1.32,<2"),
        Requirement("onnxscript", "onnxscript>=0.7"),
        Requirement("onnx", "onnx>=1.18"),
    ),
    options=(
        Option(
            "opset",
            21,
            "version of the ONNX operator set that the program uses",
            choices=(18, 19, 20, 21, 22, 23),
        ),
        Option("threads", 0, "number of threads per operator (0: the runtime decides)", at="load"),
    ),
    refuses=refuses,
    transforms=(
        with_whole_recurrence(WHOLE),
        simplified,
        separate_odd_biases,
        clamped_first,
        with_linears("weight"),
    ),
    stateless="an ONNX program keeps no state from one run to the next",
    reproducible=True,
    load=load,
    quantized_io=True,
    profile=profile,
)

PLUGIN = BackendPlugin(ONNXRUNTIME, supported_configs, annotators=ANNOTATORS, lower=lower)
