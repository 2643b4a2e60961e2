"""Operators that torch defines by others, between int8 operators, through the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from cases_operators import Case, Layers, cases

import qreg
from qreg.verification import verify as verification

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
