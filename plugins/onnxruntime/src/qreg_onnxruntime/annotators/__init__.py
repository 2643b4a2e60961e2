"""The patterns that ONNX Runtime runs in integers, one module per family.

``ANNOTATORS`` are listed in matching order: a pattern precedes its own prefixes.
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
