"""Weights that cannot be quantized are reported ahead of any work, with what to pass instead."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchao.quantization import (
    Int8DynamicActivationIntxWeightConfig,
    Int8WeightOnlyConfig,
    quantize_,
)

import qreg
from qreg.errors import InputError, PrecisionWarning


def quantized(registry: qreg.Registry, model: nn.Module, x: torch.Tensor) -> qreg.Result:
    fixed = {"backend": "toy", "registry": registry, "progress": False}
    return qreg.quantize(model, (x,), calibration=[(x,)], **fixed)


@pytest.mark.parametrize(
    "config", [Int8WeightOnlyConfig(), Int8DynamicActivationIntxWeightConfig()]
)
def test_weights_of_quantize_are_quantized_already(registry: qreg.Registry, config: object) -> None:
    model = nn.Sequential(nn.ReLU(), nn.Linear(64, 64))
    quantize_(model, config)
    with pytest.raises(InputError, match=r"weight '1.weight' is a Int.*Tensor, which is quantized"):
        quantized(registry, model, torch.ones(1, 64))


class Cache:
    """Holds a tensor and is not a module."""

    def __init__(self, keys: torch.Tensor) -> None:
        self.keys = keys


class Half(nn.Module):
    """In half precision; its buffer is held by another object too, as caches are."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)).to(dtype)
        self.cache = Cache(torch.zeros(4, dtype=dtype))
        self.register_buffer("keys", self.cache.keys)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.cache.keys.copy_(x[0])
        return self.layers(x) + self.cache.keys


def batches(dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(8, 4, dtype=dtype) for _ in range(3)]


def in_float32(model: Half) -> Half:
    """The same model and state, made in float32."""
    made = Half(torch.float32)
    made.load_state_dict(model.state_dict())
    return made.eval()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_is_quantized_in_float32(
    registry: qreg.Registry, dtype: torch.dtype
) -> None:
    model = Half(dtype).eval()
    data, wide = batches(dtype), [each.float() for each in batches(dtype)]
    fixed = {"backend": "toy", "registry": registry, "progress": False}
    with pytest.warns(PrecisionWarning, match="float16, and was converted to float32") as caught:
        found = qreg.quantize(model, data[0], calibration=data, **fixed)
    assert caught[0].filename == __file__
    wanted = qreg.quantize(in_float32(model), wide[0], calibration=wide, **fixed)
    assert found.run(wide[1]).equal(wanted.run(wide[1]))
    assert found.run(wide[1]).dtype == torch.float32
    assert found.reference(wide[0]).equal(in_float32(model)(wide[0]))
    assert "its programs take and return float32" in str(found.report)
    assert {each.dtype for each in (*model.parameters(), *model.buffers())} == {dtype}
    with pytest.raises(InputError, match="the model was exported with"):
        found.run(data[0])


def test_other_functions_convert_half_precision_too(registry: qreg.Registry) -> None:
    model, data = Half(torch.float16).eval(), batches(torch.float16)
    fixed = {"registry": registry, "progress": False}
    with pytest.warns(PrecisionWarning):
        report = qreg.explain(model, data[0], backend="toy", **fixed)
    assert sum(each.status == "annotated" for each in report.operators) == 3
    assert "converted to float32" in report.notes[-1]
    with pytest.warns(PrecisionWarning):
        tuned = qreg.tune(
            model,
            data[0],
            backends=["toy"],
            calibration=data,
            evaluate=lambda run: float(run(data[0].float()).isfinite().all()),
            budget=2,
            **fixed,
        )
    assert tuned.best is not None


def test_a_program_in_half_precision_names_the_way(registry: qreg.Registry) -> None:
    x = torch.ones(1, 4).half()
    program = torch.export.export(nn.Linear(4, 4).half(), (x,))
    with pytest.raises(InputError, match=r"weights are in float16, such as 'weight'.*\.float\(\)"):
        quantized(registry, program, x)  # type: ignore[arg-type]


def test_a_model_in_half_precision_that_cannot_be_copied_names_the_way(
    registry: qreg.Registry,
) -> None:
    model = nn.Linear(4, 4).half()
    model.stream = (each for each in ())  # type: ignore[assignment]
    with (
        pytest.warns(PrecisionWarning),
        pytest.raises(InputError, match=r"cannot be copied to convert it: .* Pass model.float\(\)"),
    ):
        quantized(registry, model, torch.ones(1, 4).half())


def test_weights_of_half_precision_beside_others_stay_in_float(registry: qreg.Registry) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4).bfloat16()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.other(self.one(x).bfloat16()).float()

    result = quantized(registry, Mixed().eval(), torch.ones(1, 4))
    assert {each.module: each.quantized for each in result.decisions if "linear" in each.node} == {
        "one": True,
        "other": False,
    }
