"""Pins that a float graph is prepared again as it was the first time, for a config of each mode."""

from again import check


def test_preparing_again_gives_the_same_graph() -> None:
    check("xnnpack", "int4_dynamic_groupwise")
