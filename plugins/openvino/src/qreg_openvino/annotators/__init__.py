"""The patterns that OpenVINO's CPU plugin runs in integers, one file for each family.

``ANNOTATORS`` are in the order in which they are asked: a longer pattern before its beginning.
"""

from __future__ import annotations

from qreg import Annotator
from qreg_openvino.annotators import concat, conv, linear, pooling, shape

ANNOTATORS: tuple[Annotator, ...] = (
    *conv.ANNOTATORS,
    *linear.ANNOTATORS,
    *concat.ANNOTATORS,
    *pooling.ANNOTATORS,
    *shape.ANNOTATORS,
)
