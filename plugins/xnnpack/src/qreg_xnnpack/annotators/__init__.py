"""The patterns that XNNPACK runs in int8, one file for each family.

``OP_TO_ANNOTATOR`` keeps the order in which they are asked: a longer pattern before its beginning,
and those that share parameters last.
"""

from __future__ import annotations

from qreg import Annotator
from qreg_xnnpack.annotators import arithmetic, conv, linear, shape

OP_TO_ANNOTATOR: dict[str, Annotator] = {
    annotator.name: annotator
    for family in (linear, conv, arithmetic, shape)
    for annotator in family.ANNOTATORS
}
