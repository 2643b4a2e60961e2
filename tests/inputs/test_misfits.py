"""Pins the remedy for a tensor of another dtype or shape."""

from __future__ import annotations

import pytest

from qreg.inputs.misfits import dtype_remedy, shape_remedy


@pytest.mark.parametrize(
    ("given", "wanted", "remedy"),
    [
        ("torch.uint8", "torch.float32", ".float(), scaled as for the float model."),
        ("torch.float64", "torch.float32", ".float()."),
        ("float32", "int64", ".long()."),
        ("float32", "complex64", ".to(torch.complex64)."),
    ],
)
def test_a_dtype_has_the_call_that_converts_to_it(given: str, wanted: str, remedy: str) -> None:
    assert dtype_remedy(given, wanted) == f"Convert it with {remedy}"


@pytest.mark.parametrize(
    ("given", "wanted", "remedy"),
    [
        ((3, 8, 8), (None, 3, 8, 8), r"Add the batch dimension with .unsqueeze(0)."),
        ((3, 8, 8), (1, 3, 8, 8), r"Add the batch dimension with .unsqueeze(0)."),
        ((3, 8, 8), (4, 3, 8, 8), "stack 4 with torch.stack, or add it with .unsqueeze(0)"),
        ((1, 3, 8, 8), (3, 8, 8), "drop it with .squeeze(0)"),
        ((5, 3, 8, 8), (3, 8, 8), "pass its rows one at a time"),
        ((5, 3, 8, 8), (4, 3, 8, 8), "dynamic_shapes=, {0: torch.export.Dim('batch')}"),
        ((8, 9, 3), (3, 8, 9), "Reorder its dimensions with .permute(2, 0, 1)."),
        ((4, 8, 9, 3), (4, 3, 8, 9), "Reorder its dimensions with .permute(0, 3, 1, 2)."),
        ((4, 3, 8, 9), (4, 8, 9, 3), "Reorder its dimensions with .permute(0, 2, 3, 1)."),
        ((4, 3, 7, 7), (4, 3, 8, 8), "or export the model with dynamic_shapes=."),
    ],
)
def test_a_shape_has_the_change_that_makes_it_fit(
    given: tuple[int, ...], wanted: tuple[int | None, ...], remedy: str
) -> None:
    assert remedy in shape_remedy(given, wanted)
