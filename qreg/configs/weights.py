"""Configs that quantize weights alone, per channel or in groups."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from qreg.configs.factory import INT4, SYMMETRIC_INT8, Codes, weight_spec
from qreg.configs.groups import groupwise_spec
from qreg.plugins.types.backend import SupportedConfig

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

SMALLEST_EPS = 2**-23  # the precision of float32: no integer kernel limits the scales


@functools.cache
def weight_config(
    weight: Codes = SYMMETRIC_INT8,
    *,
    per_channel: bool = True,
    group_size: int | None = None,
    signed_scales: bool = False,
    eps: float = SMALLEST_EPS,
) -> QuantizationConfig:
    """Return a config of symmetric weights and float activations, cached by its arguments.

    With ``group_size``, that many neighbouring elements of a row of a weight share a scale, which
    is negative for some of them with ``signed_scales``.
    """
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    if group_size is None:
        spec = weight_spec(weight, per_channel=per_channel, eps=eps)
    else:
        spec = groupwise_spec(weight, group_size, eps=eps, signed_scales=signed_scales)
    return QuantizationConfig(None, None, spec, None, False)


def configs_in_groups(sizes: Iterable[int], scale_bits: int = 32) -> Iterator[SupportedConfig]:
    """Yield the configs of 4-bit weights in groups; the first size is the default.

    They are named ``int4_weight_groupwise``, ``int4_weight_groupwise_128``. Scales are signed, and
    take ``scale_bits`` in a program.
    """
    for number, size in enumerate(sizes):
        yield SupportedConfig(
            f"int4_weight_groupwise{f'_{size}' if number else ''}",
            f"float activations; 4-bit weights in groups of {size}, for linear",
            "weight",
            functools.partial(weight_config, INT4, group_size=size, signed_scales=True),
            scale_bits,
        )
