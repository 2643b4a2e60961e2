"""Pins that a program runs on inputs by name, and returns the structure of its model's outputs."""

from __future__ import annotations

import pytest
from structures import check


@pytest.mark.slow
def test_a_program_takes_and_returns_what_its_model_does() -> None:
    check("x86_inductor")
