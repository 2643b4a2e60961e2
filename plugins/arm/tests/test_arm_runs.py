"""Programs run in the TOSA reference model and give what the converted model gives, to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import qreg
from qreg.errors import InputError

IMAGE, ROW = (1, 4, 8, 8), (3, 16)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first(x))
        return functional.relu(self.second(y) + x)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.norm = nn.Linear(16, 48), nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(x)).chunk(3, -1)
        weights = torch.softmax(query @ key.transpose(-1, -2) / 4, -1)
        return weights @ value + x


def pooled(module: Any, x: Tensor) -> Tensor:
    y = functional.max_pool2d(module.conv(x), 2)
    return functional.adaptive_avg_pool2d(functional.hardswish(y), 1).flatten(1)


CASES: dict[str, tuple[Callable[[Any], nn.Module], tuple[int, ...]]] = {
    "conv and relu6": (lambda _: nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU6()), IMAGE),
    "depthwise": (lambda _: nn.Conv2d(4, 4, 3, stride=2, groups=4), IMAGE),
    "transposed": (lambda _: nn.ConvTranspose2d(4, 8, 3, stride=2), IMAGE),
    "residual": (lambda _: Residual(), IMAGE),
    "pooling": (lambda call: call(pooled, conv=nn.Conv2d(4, 8, 3)), IMAGE),
    "linear, gelu, softmax": (
        lambda _: nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 5), nn.Softmax(-1)),
        ROW,
    ),
    "sigmoid and tanh": (lambda call: call(lambda _, x: x.sigmoid() * x.tanh()), ROW),
    "attention": (lambda _: Attention(), (1, 6, 16)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_exact_and_all_in_int8(name: str, quantized: Any, call: Any) -> None:
    make, shape = CASES[name]
    torch.manual_seed(0)
    result = quantized(make(call), shape)
    assert [each.sqnr for each in result.verification.to_converted] == [math.inf]
    assert all(each.sqnr > 20 for each in result.verification.to_float)
    assert {each.status for each in result.decisions} <= {"annotated", "shared"}
    assert {each.place for each in result.audit.placements.values()} <= {"int8", "gone"}
    assert result.audit.defects == ()
    kinds = [each.kind for each in result.lowered.conversions]
    assert sorted(kinds) == ["dequantize", "quantize"]


def from_minimum_to_maximum() -> Any:
    """The default config with ranges that end at the outermost values."""
    from torchao.quantization.pt2e import MinMaxObserver

    config = qreg.Registry().config("arm", "int8_static_per_channel").factory()
    spec = replace(config.input_activation, observer_or_fake_quant_ctr=MinMaxObserver)
    return replace(config, input_activation=spec, output_activation=spec)


def test_halves_are_rounded_as_torch_does(call: Any) -> None:
    halves = (torch.arange(-128, 127) + 0.5).div(64).view(1, -1)
    ends = torch.tensor([-2.0, 127 / 64]).repeat(128)[: halves.numel()].view(1, -1)
    result = qreg.quantize(
        call(lambda _, x: torch.relu(x)),
        (halves,),
        backend="arm",
        config=from_minimum_to_maximum(),
        calibration=[(ends,), (halves,)],
        progress=False,
    )
    (output,) = qreg.Registry().backend("arm").value.load(result.program)([halves])
    assert output.mul(64).tolist() == halves.mul(64).round().relu().tolist()


def test_a_float_part_stays_in_the_program(quantized: Any) -> None:
    quantizer = qreg.get_quantizer("arm").set_module_name("1", None)
    module = nn.Sequential(nn.Linear(16, 8), nn.Softplus(), nn.Linear(8, 4))
    result = quantized(module, ROW, quantizer=quantizer)
    places = {each.node: each.place for each in result.audit.placements.values()}
    assert (places["linear"], places["linear_1"]) == ("int8", "int8")
    assert "float" in places.values()
    assert result.audit.defects == ()
    assert result.verification.to_converted[0].sqnr > 100
    kinds = [each.kind for each in result.lowered.conversions]
    assert sorted(kinds) == ["dequantize", "dequantize", "quantize", "quantize"]


def test_inputs_and_outputs_keep_their_order(quantized: Any, call: Any) -> None:
    module = call(lambda _, a, b: (torch.tanh(b), torch.relu(a), torch.sigmoid(b)))
    result = quantized(module, (2, 3), (2, 5))
    assert [each.sqnr for each in result.verification.to_converted] == [math.inf] * 3


def test_an_input_that_the_model_changes_is_given_back(quantized: Any, call: Any) -> None:
    given = torch.randn(2, 3)
    lowered = qreg.lower(call(lambda _, x: torch.tanh(x.mul_(2))), (given,), backend="arm")
    changed, output = qreg.Registry().backend("arm").value.load(lowered.program)([given])
    assert lowered.changed_inputs == 1
    assert torch.equal(changed, given * 2)
    assert torch.allclose(output, torch.tanh(given * 2))


def test_indices_are_int64_outside_and_int32_in_the_program(call: Any) -> None:
    torch.manual_seed(0)
    module = call(
        lambda m, ids: m.linear(m.words(ids)), words=nn.Embedding(20, 8), linear=nn.Linear(8, 4)
    )
    batches = [(torch.randint(0, 20, (3,)),) for _ in range(4)]
    result = qreg.quantize(module, batches[0], backend="arm", calibration=batches, progress=False)
    assert result.verification is not None
    assert [each.sqnr for each in result.verification.to_converted] == [math.inf]
    assert result.audit is not None
    assert result.audit.defects == ()
    run = qreg.Registry().backend("arm").value.load(result.program)
    with pytest.raises(InputError, match="beyond int32"):
        run([torch.full((3,), 2**40)])
