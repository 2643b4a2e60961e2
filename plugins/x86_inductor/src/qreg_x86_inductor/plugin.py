"""The backend that this distribution registers with qreg."""

from __future__ import annotations

from qreg import Backend, BackendPlugin, Option, Requirement, Tool
from qreg.graph.recurrence import with_whole_recurrence
from qreg_x86_inductor.config import LIMITS, supported_configs
from qreg_x86_inductor.lowering import lower
from qreg_x86_inductor.quantizer import quantizer
from qreg_x86_inductor.runtime import load
from qreg_x86_inductor.transforms import transform

WHOLE = (
    "Inductor packs a weight for one call, so in int8 the program would hold a copy of weight_hh "
    "for each step: leave it whole, or run the model on xnnpack, which shares the weight"
)
X86_INDUCTOR = Backend(
    name="x86_inductor",
    summary="int8 on x86 CPUs, through torch's compiler and oneDNN",
    default_config="int8_static",
    reduced_config="int8_static_reduced",
    runtime="torch with an AOTInductor package",
    suffix=".pt2",
    requires=(Requirement("torchao", "torchao>=0.18,<0.19"),),
    tools=(Tool("g++", "apt-get install g++", "CXX"),),
    options=(Option("threads", 0, "number of threads (0: torch decides)", at="load"),),
    refuses=LIMITS,
    transforms=(with_whole_recurrence(WHOLE), transform),
    stateless="an AOTInductor package of torch 2.13 keeps no state from one run to the next",
    load=load,
    quantizer=quantizer,
)

PLUGIN = BackendPlugin(X86_INDUCTOR, supported_configs, lower=lower)
