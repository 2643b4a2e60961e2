"""Functions of each element.

Sigmoid and leaky relu have integer kernels, a clamp is done by the quantization behind it. Softmax
has an integer kernel that is slower than the float one, so it stays float.
"""

from __future__ import annotations

from collections.abc import Sequence

from qreg import Annotator, patterns
from qreg.annotators.builders import chain
from qreg.annotators.rules import nonempty, quantized_operands
from qreg_onnxruntime.reach import BOUNDED, ISLANDS
from qreg_onnxruntime.rules import clamped_around_zero


def _pointwise(name: str, targets: Sequence[str]) -> Annotator:
    return chain(
        name,
        targets,
        patterns.operands(0),
        rules=(quantized_operands, nonempty, clamped_around_zero, ISLANDS.feeds_products),
        annotate=ISLANDS.continued,
    )


ANNOTATORS = (
    _pointwise("sigmoid", ("aten.sigmoid.default",)),
    _pointwise("leaky_relu", ("aten.leaky_relu.default",)),
    _pointwise("relu", BOUNDED),
)
