"""Whole architectures: what ``qreg.quantize`` returns loads, runs and computes what it says.

All of them are the sweep, a nox session of its own; a few run with the other tests.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

from architectures import ARCHITECTURES

import qreg
from qreg.verification import DYNAMIC_FLOOR, compare

CONFIGS = ("int8_static_per_channel", "int8_static_per_tensor", "int8_dynamic_per_channel")
QUICK = {
    ("ResNet of bottlenecks", "int8_dynamic_per_channel"),
    ("BERT", "int8_static_per_channel"),
    ("ConvNext", "int8_static_per_tensor"),
    ("Wav2Vec2", "int8_dynamic_per_channel"),
}


def cases() -> Iterator[Any]:
    for case in itertools.product(ARCHITECTURES, CONFIGS):
        yield pytest.param(*case, marks=() if case in QUICK else pytest.mark.sweep)


@pytest.mark.parametrize(("name", "config"), cases())
def test_the_program_runs_and_computes_what_it_says(name: str, config: str) -> None:
    make, batch = ARCHITECTURES[name]
    model, batches = make(), [batch() for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, config=config, progress=False)
    (to_float,), (to_converted,) = result.verification.to_float, result.verification.to_converted
    assert result.counts["annotated"]
    assert to_converted.sqnr >= (DYNAMIC_FLOOR if "dynamic" in config else 30)
    # The program rounds as often as the converted model, and dynamic inputs in smaller groups.
    assert to_float.sqnr >= _sqnr(model, result.converted, batches) - 3
    assert to_float.sqnr >= 15


def _sqnr(model: Any, converted: Any, batches: Sequence[tuple[Tensor, ...]]) -> float:
    with torch.no_grad():
        reference = torch.cat([model(*batch).flatten() for batch in batches])
        output = torch.cat([converted(*batch).flatten() for batch in batches])
    found = compare(reference, output).sqnr
    assert math.isfinite(found)
    return found
