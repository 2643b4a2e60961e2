"""Whole architectures: what ``qreg.quantize`` returns loads, runs and computes what it says.

All of them run in the nox session sweep, and a few of them with the other tests.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from architectures import ARCHITECTURES

import qreg
from qreg.verification.metrics import compare

QUICK = {
    ("ResNet of bottlenecks", "int8_dynamic_per_channel"),
    ("BERT", "int8_static_per_channel"),
    ("ConvNext", "int8_static_per_tensor"),
    ("Wav2Vec2", "int8_dynamic_per_channel"),
}

# Where nothing can be quantized, the error names the operators and says why.
REFUSED = {
    ("SqueezeBERT", "int8_dynamic_per_channel"): "aten.conv1d.default: dynamic convolution in 1d"
}

# In dB, to the converted model. A delegate takes the range of each row of a dynamic input, PT2E
# that of the whole tensor: the two round differently, and the program closer to the float model.
FLOORS = {
    "int8_static_per_channel": 30,
    "int8_static_per_tensor": 30,
    "int8_dynamic_per_channel": 25,
}


def cases() -> Iterator[Any]:
    for case in itertools.product(ARCHITECTURES, FLOORS):
        if case not in REFUSED:
            yield pytest.param(*case, marks=() if case in QUICK else pytest.mark.sweep)


def quantized(name: str, config: str) -> tuple[qreg.Result, float]:
    """What ``quantize`` gives, and how close its converted model is to the float one."""
    make, batch = ARCHITECTURES[name]
    model, batches = make(), [batch() for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, config=config, progress=False)
    with torch.no_grad():
        reference = torch.cat([model(*batch).flatten() for batch in batches])
        output = torch.cat([result.converted(*batch).flatten() for batch in batches])
    return result, compare(reference, output).sqnr


@pytest.mark.parametrize(("name", "config"), list(cases()))
def test_the_program_runs_and_computes_what_it_says(name: str, config: str) -> None:
    result, converted_to_float = quantized(name, config)
    (to_float,), (to_converted,) = result.verification.to_float, result.verification.to_converted
    assert result.decided["annotated"]
    assert to_converted.sqnr >= FLOORS[config]
    assert to_float.sqnr >= max(15, converted_to_float - 3)


@pytest.mark.parametrize(("name", "config"), REFUSED)
def test_where_nothing_can_be_quantized_the_error_names_the_operators(
    name: str, config: str
) -> None:
    with pytest.raises(qreg.errors.NothingQuantizedError, match=REFUSED[name, config]):
        quantized(name, config)
