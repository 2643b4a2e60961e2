"""The patterns that ONNX Runtime runs in integers, one file for each family.

``ANNOTATORS`` are in the order in which they are asked: a longer pattern before its beginning.
"""

from __future__ import annotations

from qreg import Annotator
from qreg_onnxruntime.annotators import arithmetic, conv, linear, pointwise, pooling, shape

ANNOTATORS: tuple[Annotator, ...] = (
    *conv.ANNOTATORS,
    *linear.ANNOTATORS,
    *arithmetic.ANNOTATORS,
    *pooling.ANNOTATORS,
    *pointwise.ANNOTATORS,
    *shape.ANNOTATORS,
)
