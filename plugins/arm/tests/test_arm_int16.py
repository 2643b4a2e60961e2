"""With int16 activations, programs compute in integers and lose less than with int8 ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_arm_runs import Attention, Residual
from torch import nn

import qreg
from qreg.errors import ConfigError
from qreg.tuning.ranking import finer
from qreg.tuning.values import Variant

ROW = (3, 16)
INT8, INT16 = "int8_static_per_channel", "int16_static_per_channel"


def places(result: qreg.Result) -> set[str]:
    assert result.audit is not None
    assert result.audit.defects == ()
    return {each.place for each in result.audit.placements.values()}


@pytest.mark.parametrize(("make", "shape"), [(Residual, (1, 4, 8, 8)), (Attention, (1, 6, 16))])
def test_it_computes_in_integers_and_is_nearer_to_float(
    make: type[nn.Module], shape: tuple[int, ...], quantized: Any
) -> None:
    torch.manual_seed(0)
    module = make()
    fine, coarse = (quantized(module, shape, config=name) for name in (INT16, INT8))
    sqnr = [each.verification.to_float[0].sqnr for each in (fine, coarse)]
    assert sqnr[0] > sqnr[1] + 15
    assert fine.verification.to_converted[0].sqnr > 60
    assert places(fine) <= {"int8", "gone"}
    assert sorted(each.kind for each in fine.lowered.conversions) == ["dequantize", "quantize"]


def test_a_linear_is_the_sum_of_the_products_of_its_integers(quantized: Any) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(16, 8)
    result = quantized(layer, ROW, config=INT16)
    torch.manual_seed(0)
    batches = torch.stack([torch.randn(ROW) for _ in range(4)])
    step_in, step_out = (
        float(each.abs().max()) / 32767.5 for each in (batches, layer(batches).detach())
    )
    steps = layer.weight.detach().abs().amax(1) / 127
    codes = (batches[0].double() / step_in).round()
    weight = (layer.weight.detach() / steps[:, None]).round().double()
    bias = (layer.bias.detach().double() / (step_in * steps)).round()
    sums = (codes @ weight.T + bias) * (step_in * steps)
    by_hand = (sums / step_out).round().clamp(-32768, 32767) * step_out
    (got,) = qreg.Registry().backend("arm").value.load(result.program)([batches[0]])
    assert (got - by_hand).abs().max() < 1.01 * step_out


def test_layers_in_int8_and_int16_are_requantized_between(quantized: Any) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4))
    quantizer = qreg.get_quantizer("arm", INT8).set_module_name("2", INT16)
    result = quantized(module, ROW, quantizer=quantizer)
    assert places(result) == {"int8"}
    assert "requantize" in {each.kind for each in result.lowered.conversions}
    assert result.verification.to_converted[0].sqnr > 60


class Scored(nn.Module):
    """A softmax of masked scores, which a scope may quantize in another type."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.weights = Summed(), nn.Softmax(-1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.weights(self.scores(x, mask))


class Summed(nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x @ x.transpose(-1, -2) + mask


def test_masked_scores_in_int8_are_read_by_a_softmax_in_int16() -> None:
    mask = torch.full((8, 8), -1e4).triu(1)
    batches = [(torch.randn(2, 8, 4), mask) for _ in range(4)]
    quantizer = qreg.get_quantizer("arm", INT16).set_module_name("scores", INT8)
    result = qreg.quantize(
        Scored().eval(), batches[0], quantizer=quantizer, calibration=batches, progress=False
    )
    assert result.verification is not None
    assert result.verification.to_converted[0].sqnr > 50
    assert result.verification.to_float[0].sqnr > 20


def test_int16_with_a_zero_point_is_refused() -> None:
    config = qreg.Registry().config("arm", INT16).factory()
    spec = replace(config.input_activation, qscheme=torch.per_tensor_affine)
    with pytest.raises(ConfigError, match="int16 has no zero point"):
        qreg.get_quantizer("arm", replace(config, input_activation=spec))


def test_a_search_takes_int16_as_the_step_between_int8_and_float() -> None:
    assert list(finer(qreg.Registry(), Variant("arm", INT8))) == [INT16]
    assert list(finer(qreg.Registry(), Variant("arm", INT16))) == []
