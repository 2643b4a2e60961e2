"""executorch's own XNNPACK quantizer as a backend of qreg, lowered and run as ``xnnpack`` is."""

from __future__ import annotations

import qreg
from qreg_xnnpack.plugin import XNNPACK

NAME = "xnnpack-upstream"


def quantizer(config):
    """The wrapped quantizer, with one config for everything; qreg keeps it within its scope."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer

    return XNNPACKQuantizer().set_global(config)


def static_per_channel():
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        get_symmetric_quantization_config,
    )

    return get_symmetric_quantization_config(is_per_channel=True)


@qreg.hookimpl
def qreg_backends():
    yield qreg.Backend(
        name=NAME,
        summary="int8 on CPUs as executorch's own quantizer annotates it",
        default_config="static_per_channel",
        runtime=XNNPACK.runtime,
        suffix=".pte",
        requires=XNNPACK.requires,
        load=XNNPACK.load,
        quantizer=quantizer,
    )


@qreg.hookimpl
def qreg_supported_configs(backend):
    if backend == NAME:
        summary = "int8 activations per tensor, static; int8 weights per channel"
        yield qreg.SupportedConfig("static_per_channel", summary, "static", static_per_channel)


@qreg.hookimpl
def qreg_lower(backend, program):
    if backend == NAME:
        from qreg_xnnpack.lowering import lower

        return lower(program)
    return None
