"""Pins that programs take turns, are warmed up, and that a failing one is named an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from qreg.errors import VerificationError
from qreg.verification.latency import WARM_UP, Timing, latency, side_by_side


def test_programs_take_turns_after_a_warm_up() -> None:
    calls: list[bytes] = []

    def load(program: bytes) -> Any:
        return lambda inputs: calls.append(program)

    seconds = side_by_side(load, [b"a", b"b"], (torch.zeros(1),), rounds=3)
    assert calls == [b"a", b"b"] * (WARM_UP + 3)
    assert len(seconds) == 2
    assert all(each > 0 for each in seconds)


def test_inputs_are_flat_and_contiguous() -> None:
    given: list[Sequence[torch.Tensor]] = []

    def load(program: bytes) -> Any:
        return given.append

    side_by_side(load, [b""], (torch.zeros(2, 3).T, [torch.zeros(1)]), rounds=2)
    assert [tuple(each.shape) for each in given[0]] == [(3, 2), (1,)]
    assert given[0][0].is_contiguous()


def test_a_program_that_does_not_run_is_an_error() -> None:
    def load(program: bytes) -> Any:
        raise RuntimeError("0x12")

    with pytest.raises(VerificationError, match="does not run: 0x12"):
        side_by_side(load, [b""], (), rounds=1)


def test_a_ratio_below_one_is_faster() -> None:
    assert Timing(2.0, 1.0, 50).ratio == 0.5


def test_a_latency_is_that_of_the_fastest_tenth() -> None:
    assert latency([float(each) for each in range(11)]) == 1.0
    assert latency([2.0, 1.0]) == pytest.approx(1.1)
    assert latency([3.0]) == 3.0


def test_slower_is_more_than_two_measurements_of_one_differ() -> None:
    assert not Timing(1.0, 1.02, 50).is_slower
    assert Timing(1.0, 1.15, 50).is_slower
