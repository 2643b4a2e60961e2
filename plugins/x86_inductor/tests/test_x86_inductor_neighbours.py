"""What stays in float beside int8 operators in Inductor: it compiles, loads and is right."""

from __future__ import annotations

import pytest
from chains import chain, failures
from kinds import IMAGE
from walks import OFTEN, PARTS, surrounded, swept

BACKEND = "x86_inductor"


@pytest.mark.slow
def test_what_a_scope_leaves_in_float_runs_beside_int8() -> None:
    # torchao 0.18.0 looks for the other operand of a sum downstream of a convolution.
    with_itself = chain(IMAGE, "conv2d", "~add itself", "conv2d")
    assert failures([*OFTEN, with_itself], BACKEND) == []


@pytest.mark.sweep
def test_every_kind_runs_in_float_between_int8() -> None:
    assert failures(surrounded(BACKEND), BACKEND) == []


@pytest.mark.sweep
@pytest.mark.parametrize("part", range(PARTS))
def test_every_pair_and_many_triples_run(part: int) -> None:
    assert failures(swept(BACKEND)[part::PARTS], BACKEND) == []
