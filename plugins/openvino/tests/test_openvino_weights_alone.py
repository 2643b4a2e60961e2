"""Linear layers with int8 weights and float activations, against a calculation by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg

COLUMNS, ROWS = 256, 48


def quantize(model: nn.Module, x: Tensor, **options: Any) -> qreg.Result:
    return qreg.quantize(model.eval(), (x,), backend="openvino", progress=False, **options)


def rounded(weight: Tensor) -> Tensor:
    step = weight.abs().amax(1, keepdim=True) / 127
    return (weight * (1 / step)).round().clamp(-127, 127) * step


def sqnr(found: Tensor, wanted: Tensor) -> float:
    noise = (found - wanted).square().mean()
    return float(10 * torch.log10(wanted.square().mean() / noise))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, COLUMNS), (2, 5, COLUMNS)], ids=["matrix", "tokens"])
def test_the_program_multiplies_by_the_rounded_weight(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(COLUMNS, ROWS, bias=bias), torch.randn(shape)
    result = quantize(model, x, config="int8_weight_per_channel")
    weight = rounded(model.weight.detach())
    wanted = nn.functional.linear(x, weight, model.bias).detach()
    torch.testing.assert_close(result.converted(x), wanted)
    # The plugin quantizes activations to int8, by groups of the columns, or computes in float.
    assert sqnr(result.run(x), wanted) > 35
    (row,) = result.report.operators
    assert (row.place, row.types) == ("int8", "f32, i8 -> f32")
    assert not result.audit.defects
    assert len(result.program) < ROWS * COLUMNS + 16_000


def test_weights_alone_stand_next_to_quantized_activations_and_float() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64), nn.Softmax(-1), nn.Linear(64, 64), nn.Softmax(-1)]
    model = nn.Sequential(*layers, nn.Linear(64, 64))
    quantizer = qreg.get_quantizer("openvino").set_module_name("2", "int8_weight_per_channel")
    quantizer.set_module_name("4", None)
    batches = [(torch.randn(8, 64),) for _ in range(4)]
    result = quantize(model, batches[0][0], quantizer=quantizer, calibration=batches)
    linears = [each for each in result.report.operators if "linear" in each.operator]
    assert [each.place for each in linears] == ["int8", "int8", "float"]
    assert result.verification.to_converted[0].sqnr > 30
