"""Checks of configs against a backend and its processor, and of weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch.fx import GraphModule

from qreg.configs.validation import saturates
from qreg.errors import ConfigError, InputError
from qreg.graph.compat import annotation_of
from qreg.graph.nodes import tensor_at
from qreg.graph.provenance import module_path
from qreg.plugins.blame import call
from qreg.plugins.processor import VNNI, SaturationWarning
from qreg.plugins.registry import DEFAULT
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.backend import Backend

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


def check_supported(supplied: Supplied[Backend], config: object, value: QuantizationConfig) -> None:
    """Raise ``ConfigError`` for a config that the backend does not support.

    ``value`` is the config that ``config`` names, or ``config`` itself.
    """
    backend, answers = supplied.value, (str, type(None))
    if backend.refuses is None:
        return
    reason = call(supplied, "refuses", backend.refuses, value, expected=answers)
    if reason:
        raise ConfigError(
            f"{_named(config)} is not for backend {backend.name!r}: {reason}. "
            f"Choose another config: `qreg ops {backend.name}` lists them."
        )


def warn_of_saturation(backend: Backend, config: object, value: QuantizationConfig) -> None:
    """Warn of a config whose sums of products saturate in the backend on this processor."""
    if config == DEFAULT or not backend.saturates or not saturates(value):
        return
    message = (
        f"{_named(config)}: 8-bit weights saturate in {backend.name} on this processor, which has "
        f"no VNNI (expected weights in [-64, 63]). Use {backend.default_config!r}, or another that "
        f"`qreg ops {backend.name}` lists as 7-bit. For a program that runs on a processor with "
        f"VNNI, set {VNNI}=1."
    )
    warnings.warn(message, SaturationWarning, stacklevel=4)


def notes_on(backend: Backend, configs: Sequence[QuantizationConfig | None]) -> tuple[str, ...]:
    """Return notes for reports on the effects of the processor on configs."""
    given = [each for each in configs if each]
    if not backend.saturates or not given:
        return ()
    if any(map(saturates, given)):
        return (
            "8-bit weights: this processor has no VNNI, and sums of products saturate. Choose "
            f"{backend.default_config!r}",
        )
    return ("7-bit weights: this processor has no VNNI, and sums of products of 8 bits saturate",)


def check_finite(model: GraphModule) -> None:
    """Raise ``InputError`` for an annotated weight that holds NaN or infinity."""
    for node in model.graph.nodes:
        found = annotation_of(node)
        for source in found.input_qspec_map if found else ():
            if source.op == "get_attr" and not tensor_at(source).isfinite().all():
                raise InputError(
                    f"{source.target!r}, a weight of {node.target} in module "
                    f"{module_path(node)!r}, holds NaN or infinity: it has no range to quantize. "
                    "Repair it, or keep the module in float with set_module_name(..., None)."
                )


def _named(config: object) -> str:
    return f"config {config!r}" if isinstance(config, str) else "the config"
