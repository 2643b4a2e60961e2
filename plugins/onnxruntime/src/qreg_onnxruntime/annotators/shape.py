"""Operators that only move values: ONNX Runtime runs them on uint8 as on float."""

from __future__ import annotations

from qreg.annotators.builders import carrying
from qreg.annotators.rules import nonempty, output_with_dimensions
from qreg.graph.operators import PERMUTES, RESHAPES, SLICE, UNSQUEEZE
from qreg_onnxruntime.rules import doubled

SQUEEZES = ("aten.squeeze.dim", "aten.squeeze.dims")

ANNOTATORS = (
    carrying("view", (*RESHAPES, *SQUEEZES, *UNSQUEEZE), nonempty, output_with_dimensions),
    carrying("permute", (*PERMUTES, "aten.t.default"), nonempty),
    carrying("slice", (*SLICE, "aten.select.int"), nonempty, output_with_dimensions),
    carrying("expand", ("aten.expand.default",), nonempty),
    carrying("clone", ("aten.clone.default", "aten.contiguous.default"), nonempty),
    carrying("upsample_nearest2d", ("aten.upsample_nearest2d.vec",), doubled, nonempty),
    carrying("pixel_shuffle", ("aten.pixel_shuffle.default",), nonempty),
)
