"""What a scope keeps in float beside int8 operators on TOSA: it lowers, runs and is right."""

from __future__ import annotations

import pytest
import torch
from chains import failures
from torch.nn import Module
from torch.nn import functional as F
from walks import PARTS, surrounded, swept

from qreg_arm.repairs import spell_out_float

BACKEND = "arm"
AT_ONCE = 5  # the reference model takes longer for each operator the more a program has


def test_what_a_scope_leaves_in_float_runs_beside_int8() -> None:
    assert failures(surrounded(BACKEND), BACKEND, at_once=AT_ONCE) == []


@pytest.mark.sweep
@pytest.mark.parametrize("part", range(PARTS))
def test_every_pair_and_many_triples_run(part: int) -> None:
    assert failures(swept(BACKEND)[part::PARTS], BACKEND, at_once=AT_ONCE) == []


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_elu_is_spelled_out_exactly(alpha: float) -> None:
    class Elu(Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.elu(x, alpha)

    x = torch.linspace(-4, 4, 33)
    program = torch.export.export(Elu(), (x,))
    spell_out_float(program)
    program.graph_module.recompile()
    assert "elu.default" not in str(program.graph).replace("relu.default", "")
    torch.testing.assert_close(program.module()(x), F.elu(x, alpha))
