"""Configs that quantize weights alone, per channel or in groups."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from qreg.configs.factory import SYMMETRIC_INT8, Codes, weight_spec
from qreg.configs.groups import groupwise_spec

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

SMALLEST_EPS = 2**-23  # the precision of float32: no integer kernel limits the scales


@functools.cache
def weight_config(
    weight: Codes = SYMMETRIC_INT8,
    *,
    per_channel: bool = True,
    group_size: int | None = None,
    eps: float = SMALLEST_EPS,
) -> QuantizationConfig:
    """Return a config of symmetric weights and float activations, cached by its arguments.

    With ``group_size``, that many neighbouring elements of a row of a weight share a scale.
    """
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    if group_size is None:
        spec = weight_spec(weight, per_channel=per_channel, eps=eps)
    else:
        spec = groupwise_spec(weight, group_size, eps=eps)
    return QuantizationConfig(None, None, spec, None, False)
