"""The patterns that XNNPACK runs in int8, one file for each family.

``ANNOTATORS`` are in the order in which they are asked: a longer pattern before its beginning.
``OP_TO_ANNOTATOR`` has them by name, as users of executorch's quantizer know it.
"""

from __future__ import annotations

from qreg import Annotator
from qreg_xnnpack.annotators import arithmetic, conv, linear, shape
from qreg_xnnpack.annotators.recurrent import GRU_IO_ONLY

ANNOTATORS: tuple[Annotator, ...] = (
    *conv.ANNOTATORS,
    *linear.ANNOTATORS,
    *arithmetic.ANNOTATORS,
    *shape.ANNOTATORS,
)

OP_TO_ANNOTATOR: dict[str, Annotator] = {
    annotator.name: annotator for annotator in (*ANNOTATORS, GRU_IO_ONLY)
}
