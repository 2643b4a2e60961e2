"""What this distribution answers to qreg's hooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from qreg import Annotator, Backend, Lowered, Option, Requirement, SupportedConfig, hookimpl
from qreg.transforms import separate_odd_biases
from qreg_xnnpack.annotators import ANNOTATORS
from qreg_xnnpack.config import refuses, supported_configs
from qreg_xnnpack.lowering import lower
from qreg_xnnpack.profiling import profile
from qreg_xnnpack.runtime import load
from qreg_xnnpack.transforms import transform

if TYPE_CHECKING:
    from torch.export import ExportedProgram

THREADS = Option("threads", 0, "of the runtime, which chooses where it is 0", least=0, at="load")

XNNPACK = Backend(
    name="xnnpack",
    summary="int8 on Arm and x86 CPUs, through ExecuTorch's XNNPACK delegate",
    default_config="int8_static_per_channel",
    runtime="ExecuTorch with the XNNPACK delegate",
    suffix=".pte",
    requires=(Requirement("executorch", "executorch==1.4.1"),),
    options=(THREADS,),
    refuses=refuses,
    transforms=(transform, separate_odd_biases),
    load=load,
    profile=profile,
)


@hookimpl
def qreg_backends() -> Iterable[Backend]:
    return [XNNPACK]


@hookimpl
def qreg_supported_configs(backend: str) -> Iterable[SupportedConfig]:
    return supported_configs() if backend == XNNPACK.name else ()


@hookimpl
def qreg_annotators(backend: str) -> Iterable[Annotator]:
    return ANNOTATORS if backend == XNNPACK.name else ()


@hookimpl
def qreg_lower(backend: str, program: ExportedProgram) -> Lowered | None:
    return lower(program) if backend == XNNPACK.name else None
