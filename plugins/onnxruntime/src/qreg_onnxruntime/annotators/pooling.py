"""Global average pooling, and max pooling, which shares the qparams of its input.

The integer kernel for other averages is slower than the float kernel with its conversions.
"""

from __future__ import annotations

from qreg.annotators.builders import carrying, continuing
from qreg.annotators.rules import nonempty, pooled_to_one, spatial_mean
from qreg_onnxruntime.reach import ISLANDS, MAX_POOLS, MEANS, POOLS
from qreg_onnxruntime.rules import plain_maximum

ANNOTATORS = (
    continuing(
        ISLANDS, "adaptive_avg_pool2d", POOLS, pooled_to_one, summary="global average pooling"
    ),
    continuing(ISLANDS, "mean", MEANS, spatial_mean, summary="mean of each channel of an image"),
    carrying("max_pool", MAX_POOLS, plain_maximum, nonempty),
)
