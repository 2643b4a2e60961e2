"""A dynamic size fits any, and is spelled so."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from qreg.utils.shapes import fits, spelled


@pytest.mark.parametrize(
    ("shape", "wanted", "fitting"),
    [
        ((2, 8), (2, 8), True),
        ((5, 8), (None, 8), True),
        ((0, 8), (None, 8), True),
        ((5, 9), (None, 8), False),
        ((8,), (None, 8), False),
        ((2, 8, 1), (2, 8), False),
        ((), (), True),
    ],
)
def test_a_shape_fits_where_all_static_sizes_are_equal(
    shape: Sequence[int], wanted: Sequence[int | None], fitting: bool
) -> None:
    assert fits(shape, wanted) is fitting


@pytest.mark.parametrize("shape", [(), (4,), (2, 8)])
def test_a_static_shape_is_spelled_as_a_tuple(shape: tuple[int, ...]) -> None:
    assert spelled(shape) == str(shape)


def test_a_dynamic_size_is_any() -> None:
    assert spelled((None,)) == "(any,)"
    assert spelled((None, 8)) == "(any, 8)"
