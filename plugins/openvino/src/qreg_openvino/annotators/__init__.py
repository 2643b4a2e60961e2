"""The patterns that OpenVINO's CPU plugin runs in integers, one module per family.

``ANNOTATORS`` are listed in matching order: a pattern precedes its own prefixes.
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
