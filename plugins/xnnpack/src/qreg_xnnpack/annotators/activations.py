"""Activations between two int8 operators: XNNPACK looks up each of the 256 values in a table."""

from __future__ import annotations

from qreg.annotators.builders import continuing
from qreg.graph.operators import TABULATED
from qreg_xnnpack.delegate import ISLANDS

ANNOTATORS = (
    *(
        continuing(
            ISLANDS, name.split(".")[1], (name,), summary="between int8 operators, by a table"
        )
        for name in TABULATED
    ),
    continuing(
        ISLANDS,
        "silu",
        ("aten.silu.default",),
        summary="between int8 operators, as its input times a sigmoid by a table",
    ),
)
