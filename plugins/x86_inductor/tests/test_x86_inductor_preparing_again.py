"""Pins that a float graph is prepared again as it was the first time, for every config."""

from again import check


def test_preparing_again_gives_the_same_graph() -> None:
    check("x86_inductor")
