"""What stays in float beside int8 operators in OpenVINO: it lowers, loads and is right."""

from __future__ import annotations

import pytest
from chains import failures, run_apart
from walks import OFTEN, PARTS, surrounded, swept

BACKEND = "openvino"


def test_what_a_scope_leaves_in_float_runs_beside_int8() -> None:
    assert failures(OFTEN, BACKEND) == []


@pytest.mark.sweep
def test_every_kind_runs_in_float_between_int8() -> None:
    assert failures(surrounded(BACKEND), BACKEND) == []


@pytest.mark.sweep
@pytest.mark.parametrize("part", range(PARTS))
def test_every_pair_and_many_triples_run(part: int) -> None:
    assert failures(swept(BACKEND)[part::PARTS], BACKEND, run=run_apart) == []
