"""Average pooling of images, and max pooling, which shares the qparams of its input."""

from __future__ import annotations

from qreg.annotators.builders import carrying, continuing
from qreg.annotators.rules import nonempty, pooled_to_one, spatial_mean
from qreg_openvino.reach import GLOBAL_POOLS, ISLANDS, MAX_POOLS, MEANS, POOLS
from qreg_openvino.rules import batched_pool, plain_average, plain_maximum

ANNOTATORS = (
    continuing(ISLANDS, "avg_pool", POOLS, batched_pool, plain_average),
    continuing(
        ISLANDS,
        "adaptive_avg_pool2d",
        GLOBAL_POOLS,
        pooled_to_one,
        summary="global average pooling",
    ),
    continuing(ISLANDS, "mean", MEANS, spatial_mean, summary="mean of each channel of an image"),
    carrying("max_pool", MAX_POOLS, batched_pool, plain_maximum, nonempty),
)
