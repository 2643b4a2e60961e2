"""Weights with a scale for each group of neighbouring elements of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qreg.configs.factory import Codes
from qreg.graph.nodes import shape_of

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec

    from qreg.plugins.types.annotator import Match

TORCHAOS_EPS = 2**-23  # of float32: the smallest scale of torchao's quantize_


def groupwise_spec(
    codes: Codes, group_size: int, *, eps: float = TORCHAOS_EPS, signed_scales: bool = False
) -> QuantizationSpec:
    """Return a symmetric spec of a weight of shape (rows, columns), in groups along its rows.

    With ``signed_scales``, each scale has the sign that makes its group use all of the range.
    """
    import torch
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    from qreg.observers.groups import ConstantPerGroupMinMaxObserver

    return QuantizationSpec(
        dtype=getattr(torch, codes.dtype),
        quant_min=codes.low,
        quant_max=codes.high,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        is_dynamic=False,
        observer_or_fake_quant_ctr=ConstantPerGroupMinMaxObserver.with_args(
            group_size=group_size, eps=eps, **({"signed_scales": True} if signed_scales else {})
        ),
    )


def group_size_of(spec: QuantizationSpec | None) -> int | None:
    """Return the number of elements of a row that share a scale, None for a spec without groups."""
    found = _arguments(spec).get("group_size")
    return None if found is None else int(found)


def has_signed_scales(spec: QuantizationSpec | None) -> bool:
    """Whether the scales of a spec in groups may be negative."""
    return bool(_arguments(spec).get("signed_scales"))


def _arguments(spec: QuantizationSpec | None) -> Mapping[str, Any]:
    """Return the arguments of the observer of a spec."""
    from qreg.graph.compat import made_by

    return made_by(getattr(spec, "observer_or_fake_quant_ctr", None))[1]


def whole_groups(match: Match, config: QuantizationConfig) -> str | None:
    """Require rows of whole groups: a rule for a match with a weight of shape (rows, columns)."""
    columns, size = shape_of(match.weight)[-1], group_size_of(config.weight)
    if size is None or columns % size == 0:
        return None
    return f"its {columns} columns are not a multiple of the group size {size}"


def unsupported_groups(config: QuantizationConfig, smallest: int) -> str | None:
    """Return why a runtime has no kernel for the groups of a weight, or None.

    Its kernels have float activations, and groups of a power of 2 from ``smallest``.
    """
    from qreg.configs.validation import mode_of

    size = group_size_of(config.weight)
    if size is None:
        return None
    if size < smallest or size & (size - 1):
        return f"its weights are in groups of {size} (expected a power of 2 from {smallest})"
    weight_only = mode_of(config) == "weight"
    return None if weight_only else "its weights are in groups, which need float activations"
