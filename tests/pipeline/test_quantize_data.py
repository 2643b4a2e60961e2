"""Pins which data calibrates a model, and what is checked ahead of the export."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from quantizing import Net, X, batches, quantize
from torch import Tensor, nn
from torch.export import Dim

from qreg import Registry, Result, errors


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((X, X), r"batch 2: has 2 inputs \(expected 1: x\)"),
        (torch.zeros(8, 5), "batch 2: input 'x': has shape"),
        (X.double(), "batch 2: input 'x': has dtype torch.float64"),
    ],
    ids=["arity", "shape", "dtype"],
)
def test_a_batch_that_does_not_fit_is_named(bad: Any, message: str, registry: Registry) -> None:
    with pytest.raises(errors.CalibrationError, match=message):
        quantize(registry, calibration=[*batches(2), bad])


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(5, 4), nn.Linear(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids))


KNOWN, UNKNOWN = torch.tensor([[0, 4]]), torch.tensor([[0, 5]])


@pytest.mark.parametrize("place", [0, 1])
def test_the_operator_and_the_batch_that_fail_are_named(place: int, registry: Registry) -> None:
    data: list[Tensor] = [KNOWN, KNOWN]
    data[place] = UNKNOWN
    message = (
        rf"^calibration batch {place}: aten.embedding.default \(embedding\) in module 'table', "
        r"called at .*self.head\(self.table\(ids\)\), raised IndexError: index out of range in self"
    )
    with pytest.raises(errors.CalibrationError, match=message) as raised:
        quantize(registry, Words(), example=KNOWN, calibration=data)
    assert raised.value.batch == place
    assert isinstance(raised.value.__cause__, IndexError)


def test_so_are_example_inputs_that_fail(registry: Registry) -> None:
    with pytest.raises(errors.CalibrationError, match=r"^example_inputs: aten.embedding.default"):
        quantize(registry, Words(), example=UNKNOWN, config="dynamic", calibration=None)


def test_batches_may_come_from_a_generator(registry: Registry, result: Result) -> None:
    def generated() -> Iterator[tuple[Tensor]]:
        for batch in batches():
            yield (batch,)

    found = quantize(registry, calibration=generated())
    assert found.verification == result.verification


def test_no_more_batches_than_the_cap_are_asked_for(registry: Registry) -> None:
    given = iter([*batches(2), torch.full((8, 4), torch.nan)])
    found = quantize(registry, calibration=given, max_batches=2)
    assert found.verification is not None
    assert found.verification.samples == 2
    assert next(given).isnan().all()


def test_a_cap_below_one_fails_before_the_export(registry: Registry) -> None:
    model = Net()
    with pytest.raises(errors.InputError, match="max_batches is 0"):
        quantize(registry, model, max_batches=0)
    assert model.calls == 0


def test_a_static_config_without_calibration_fails_before_the_export(registry: Registry) -> None:
    model = Net()
    with pytest.raises(errors.CalibrationError, match="pass calibration"):
        quantize(registry, model, calibration=None)
    assert model.calls == 0


def test_an_unknown_backend_or_config_fails_before_the_export(registry: Registry) -> None:
    model = Net()
    for unknown in ({"backend": "tpu"}, {"config": "int3"}):
        with pytest.raises(errors.UnknownNameError):
            quantize(registry, model, **unknown)
    assert model.calls == 0


def test_empty_calibration_data_is_an_error(registry: Registry) -> None:
    with pytest.raises(errors.CalibrationError, match="no batch"):
        quantize(registry, calibration=[])


def test_a_batch_without_a_value_is_an_error(registry: Registry) -> None:
    dynamic = ({0: Dim("batch", min=0, max=64)},)
    with pytest.raises(errors.CalibrationError, match="the observer of x saw no value"):
        quantize(registry, calibration=[torch.zeros(0, 4)], dynamic_shapes=dynamic)


def test_a_dynamic_config_needs_no_calibration(registry: Registry) -> None:
    found = quantize(registry, example=batches(1)[0], config="dynamic", calibration=None)
    assert found.decided == {"annotated": 2, "float": 1}
    assert found.verification is not None
    assert found.verification.to_float[0].sqnr > 30


def test_a_histogram_config_is_calibrated_too(registry: Registry) -> None:
    found = quantize(registry, config="histogram").verification
    assert found is not None
    assert 30 < found.to_float[0].sqnr < float("inf")


def test_a_qat_config_is_refused_with_the_way_out(registry: Registry) -> None:
    model = Net()
    with pytest.raises(errors.ConfigError, match=r"prepare_qat_pt2e.*lower"):
        quantize(registry, model, config="qat")
    assert model.calls == 0
