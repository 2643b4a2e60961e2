"""Operators that only move values: the CPU plugin runs them on 8-bit values as on float."""

from __future__ import annotations

from qreg.annotators.builders import carrying
from qreg.annotators.rules import nonempty, output_with_dimensions
from qreg_openvino.reach import COPIES, PERMUTATIONS, SHUFFLES, SLICES, UPSAMPLES, VIEWS

ANNOTATORS = (
    carrying("view", VIEWS, nonempty, output_with_dimensions),
    carrying("permute", PERMUTATIONS, nonempty),
    carrying("slice", SLICES, nonempty, output_with_dimensions),
    carrying("clone", COPIES, nonempty),
    carrying("upsample_nearest2d", UPSAMPLES, nonempty),
    carrying("pixel_shuffle", SHUFFLES, nonempty),
)
