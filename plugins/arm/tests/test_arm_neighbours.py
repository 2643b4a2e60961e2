"""What a scope keeps in float beside int8 operators on TOSA: it lowers, runs and is right."""

from __future__ import annotations

import pytest
from chains import failures
from walks import PARTS, surrounded, swept

BACKEND = "arm"
AT_ONCE = 5  # the reference model takes longer for each operator the more a program has


def test_what_a_scope_leaves_in_float_runs_beside_int8() -> None:
    assert failures(surrounded(BACKEND), BACKEND, at_once=AT_ONCE) == []


@pytest.mark.sweep
@pytest.mark.parametrize("part", range(PARTS))
def test_every_pair_and_many_triples_run(part: int) -> None:
    assert failures(swept(BACKEND)[part::PARTS], BACKEND, at_once=AT_ONCE) == []
