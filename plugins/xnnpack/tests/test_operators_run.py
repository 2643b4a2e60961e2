"""Operators that torch defines by others, between int8 operators, through the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from cases_operators import Case, Layers, cases

import qreg
from qreg.errors import QregError
from qreg.verification import verify as verification
from qreg_xnnpack.runtime import load

# What the small models in architectures.py export, beside what tests of their own run.
QUICK = (
    *("adaptive_avg_pool2d", "chunk", "clamp_min", "expand_as", "glu", "hardsigmoid", "hardswish"),
    *("layer_norm", "masked_fill", "narrow", "pad", "reshape", "roll", "rsub", "silu", "softmax"),
    *("split", "square", "squeeze", "transpose", "unbind", "unflatten", "channel_shuffle"),
)
PARTS = 2


def named(names: Sequence[str]) -> list[Case]:
    packets = {f"aten.{name}" for name in names}
    return [case for case in cases() if case.name.rpartition(".")[0] in packets]


def wrong(chosen: Sequence[Case]) -> Iterator[str]:
    """The operators of one program that are further than 25 dB from float."""
    model = Layers(chosen).eval()
    batches = [model.inputs(seed) for seed in range(1, 5)]
    result = qreg.quantize(model, batches[0], calibration=batches, progress=False)
    with torch.no_grad():
        wanted = model(*batches[1])
    for case, one, other in zip(chosen, wanted, result.run(*batches[1]), strict=True):
        for found in verification.compare_all(list(zip(other)), list(zip(one))):
            if found.sqnr < 25:
                yield f"{case.name}: {found.sqnr:.1f} dB"


@pytest.mark.parametrize("part", range(PARTS))
def test_operators_of_the_architectures_run_between_int8_ones(part: int) -> None:
    assert list(wrong(named(QUICK)[part::PARTS])) == []


PIECES = 20


def program_of(case: Case) -> qreg.Result | None:
    """The operator between int8 ones as a program; None where the runtime cannot run it in float.

    Without a kernel for it, a float program of it does not lower, load or run either.
    """
    model = Layers([case]).eval()
    batches = [model.inputs(seed) for seed in range(1, 5)]
    try:
        return qreg.quantize(model, batches[0], calibration=batches, progress=False)
    except QregError:
        with pytest.raises((QregError, RuntimeError)):
            load(qreg.lower(model, batches[0]).program)(batches[0])
        return None


@pytest.mark.sweep
@pytest.mark.parametrize("piece", range(PIECES))
def test_every_operator_with_a_kernel_runs_between_int8_ones(piece: int) -> None:
    for case in cases()[piece::PIECES]:
        result = program_of(case)
        if result is not None:
            assert all(each.sqnr > 20 for each in result.verification.to_float), case.name
