"""Pins that a float graph is prepared again as it was the first time, for every config."""

from again import check


def test_preparing_again_gives_the_same_graph() -> None:
    # Of an LSTM, Arm's passes select the initial state from a constant, which is folded later.
    check("arm", without=("lstm",))
