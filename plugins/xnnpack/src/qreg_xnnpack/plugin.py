"""The backend that this distribution registers with qreg."""

from __future__ import annotations

from qreg import Backend, BackendPlugin, Option, Requirement
from qreg.graph.recurrence import without_recurrence
from qreg.graph.rewrites import separate_odd_biases
from qreg.graph.slice_writes import without_slice_writes
from qreg.graph.transposing import with_linears
from qreg_xnnpack.annotators import ANNOTATORS
from qreg_xnnpack.config import CONFIGS, refuses
from qreg_xnnpack.finishing import finished
from qreg_xnnpack.interfaces import interfaces
from qreg_xnnpack.lowering import lower
from qreg_xnnpack.profiling import profile
from qreg_xnnpack.runtime import load, load_methods
from qreg_xnnpack.transforms import transform

THREADS = Option(
    "threads", 0, "number of runtime threads (0: the runtime decides)", least=0, at="load"
)

XNNPACK = Backend(
    name="xnnpack",
    summary="int8 on Arm and x86 CPUs, through ExecuTorch's XNNPACK delegate",
    default_config="int8_static_per_channel",
    runtime="ExecuTorch with the XNNPACK delegate",
    suffix=".pte",
    requires=(Requirement("executorch", "executorch>=1.4.1,<1.6"),),
    options=(THREADS,),
    refuses=refuses,
    transforms=(
        without_recurrence,
        without_slice_writes,
        transform,
        separate_odd_biases,
        with_linears("dynamic"),
    ),
    finish=finished,
    reproducible=True,
    load=load,
    quantized_io=True,
    load_methods=load_methods,
    interfaces=interfaces,
    profile=profile,
)

PLUGIN = BackendPlugin(XNNPACK, CONFIGS, annotators=ANNOTATORS, lower=lower)
