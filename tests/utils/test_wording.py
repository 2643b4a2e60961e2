"""Pins how ratios and shares are written."""

from __future__ import annotations

import math

import pytest

from qreg.utils.wording import percent, size, speed, than


@pytest.mark.parametrize(
    ("time", "reference", "wanted"),
    [
        (1.15, 1.0, "15 % slower"),
        (1.0, 1.15, "15 % faster"),
        (1.0, 1.9, "1.9 times faster"),
        (79.8, 0.75, "106 times slower"),
        (1.0, 9.97, "10 times faster"),
        (1.0, 2345.0, "2,345 times faster"),
        (1.49, 1.0, "49 % slower"),
        (1.5, 1.0, "1.5 times slower"),
        (1.02, 1.0, "as fast"),
        (1.0, 1.0, "as fast"),
        (0.0, 1.0, "not comparable"),
        (1.0, 0.0, "not comparable"),
        (math.inf, 1.0, "not comparable"),
        (math.nan, 1.0, "not comparable"),
    ],
)
def test_a_ratio_of_times_is_written_in_words(time: float, reference: float, wanted: str) -> None:
    assert speed(time, reference) == wanted


@pytest.mark.parametrize(
    ("count", "reference", "wanted"),
    [
        (100, 280, "2.8 times smaller than float"),
        (112, 100, "12 % larger than float"),
        (100, 100, "as large as float"),
        (100, 0, "not comparable with float"),
    ],
)
def test_a_ratio_of_sizes_is_written_in_words(count: int, reference: int, wanted: str) -> None:
    assert than(size(count, reference), "float") == wanted


@pytest.mark.parametrize(
    ("share", "wanted"),
    [
        (0.0, "0.0 %"),
        (0.003, "0.3 %"),
        (1.0, "100.0 %"),
        (1e-6, "<0.1 %"),
        (0.99999, ">99.9 %"),
    ],
)
def test_a_share_is_none_or_all_only_where_it_is(share: float, wanted: str) -> None:
    assert percent(share) == wanted
