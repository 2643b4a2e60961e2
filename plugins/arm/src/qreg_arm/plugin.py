"""The hooks of the Arm plugin; ``qreg list`` imports this module, so it must not import torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from qreg import Backend, Lowered, Option, Requirement, SupportedConfig, hookimpl
from qreg_arm.config import CONFIGS, refused
from qreg_arm.runtime import load
from qreg_arm.targets import ETHOS_U, TARGETS, TOSA, Target

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, Quantizer

EXECUTORCH = "executorch[ethos-u]==1.4.1"
NUMPY = Requirement("numpy", "numpy>=1.26,<2.2")  # the version tosa-tools 2026.5.0 was built with
LOWERS = (
    Requirement("executorch", EXECUTORCH),
    Requirement("tosa_serializer", "tosa-tools==2026.5.0"),
    NUMPY,
)


def _quantizer(target: Target, config: QuantizationConfig) -> Quantizer:
    from qreg_arm.config import in_arm_form
    from qreg_arm.quantizer import ArmQuantizer

    quantizer: Quantizer = ArmQuantizer(target.compile_spec())
    return quantizer.set_global(in_arm_form(config))


def _backend(target: Target, **others: Any) -> Backend:
    make: Callable[[QuantizationConfig], Quantizer] = partial(_quantizer, target)
    return Backend(
        name=target.name,
        summary=target.summary,
        default_config="int8_static_per_channel",
        refuses=refused,
        dynamic_shapes=False,
        quantized_io=True,
        quantizer=make,
        **others,
    )


def _ethos_u(target: Target) -> Backend:
    summary = "multiply-accumulates per cycle of the NPU"
    macs = Option("macs", target.macs[0], summary, choices=tuple(sorted(target.macs)))
    return _backend(
        target,
        runtime="compiled only: not run here",
        suffix=".pte",
        requires=(*LOWERS, Requirement("ethosu.vela", "ethos-u-vela==5.1.0")),
        options=(macs,),
    )


BACKENDS = (
    _backend(
        TOSA,
        runtime="the TOSA reference model",
        suffix=".tosa",
        requires=LOWERS,
        stateless="a TOSA program keeps no state",
        load=load,
    ),
    *map(_ethos_u, ETHOS_U),
)


@hookimpl
def qreg_backends() -> Iterable[Backend]:
    return BACKENDS


@hookimpl
def qreg_supported_configs(backend: str) -> Iterable[SupportedConfig]:
    return CONFIGS if backend in TARGETS else ()


@hookimpl
def qreg_lower(
    backend: str, program: ExportedProgram, options: Mapping[str, Any]
) -> Lowered | None:
    target = TARGETS.get(backend)
    if target is None:
        return None
    from qreg_arm.lowering import lower_to_ethos_u, lower_to_tosa

    if target is TOSA:
        return lower_to_tosa(program, target.compile_spec())
    return lower_to_ethos_u(program, target.compile_spec(options["macs"]))
