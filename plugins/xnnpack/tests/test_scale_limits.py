"""Scales at the limits of XNNPACK: right below them, and a message beyond that says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest
import torch
from tabular import Tabular, features, quantize, sqnr
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

import qreg
from qreg.errors import LoadError, LoweringError
from qreg.verification.metrics import compare
from qreg_xnnpack import passes
from qreg_xnnpack.lowering import lower
from qreg_xnnpack.runtime import load

Kind = Callable[[Tensor, Tensor, Tensor | None], Tensor]

CHANNELS, SIZE = 4, 6
WEIGHTED: dict[str, tuple[Kind, tuple[int, ...], int]] = {  # with the weight's shape and channels
    "linear": (F.linear, (CHANNELS, SIZE), 0),
    "conv2d": (F.conv2d, (CHANNELS, CHANNELS, 3, 3), 0),
    "depthwise": (lambda x, w, b: F.conv2d(x, w, b, groups=CHANNELS), (CHANNELS, 1, 3, 3), 0),
    "conv1d": (F.conv1d, (CHANNELS, CHANNELS, 3), 0),
    "transposed": (F.conv_transpose2d, (CHANNELS, CHANNELS, 3, 3), 1),
}
SUMS = {"add": torch.add, "sub": torch.sub, "mul": torch.mul}
LIMITS = {"add": 20, "sub": 20, "mul": 16}  # powers of 2; 16 is the first beyond 2**31 / 255**2


def quantized(x: Tensor, scale: float) -> Tensor:
    q, kind = torch.ops.quantized_decomposed, (scale, 0, -128, 127, torch.int8)
    return q.dequantize_per_tensor(q.quantize_per_tensor(x, *kind), *kind)


class Weighted(nn.Module):
    """An operator with int8 weights as ``convert_pt2e`` leaves it, for an input of scale 1."""

    def __init__(self, name: str, ratio: float, per_channel: bool, bias: float | None = None):
        super().__init__()
        self.function, shape, self.axis = WEIGHTED[name]
        codes = torch.randint(-127, 128, shape, generator=torch.Generator().manual_seed(0))
        self.register_buffer("weight", codes.to(torch.int8))
        self.register_buffer("scales", ratio / 2.0 ** torch.arange(CHANNELS))
        self.register_buffer("zeros", torch.zeros(CHANNELS, dtype=torch.int64))
        self.ratio = None if per_channel else ratio
        self.bias = None if bias is None else nn.Parameter(torch.full((CHANNELS,), bias))

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, 0] if self.function is F.conv1d else x
        q, kind = torch.ops.quantized_decomposed, (-127, 127, torch.int8)
        if self.ratio is None:
            given = self.weight, self.scales, self.zeros, self.axis
            weight = q.dequantize_per_channel(*given, *kind)
        else:
            weight = q.dequantize_per_tensor(self.weight, self.ratio, 0, *kind)
        return quantized(self.function(quantized(x, 1.0), weight, self.bias), 1.0)


class Pair(nn.Module):
    """A sum or product of two inputs, of which the first has a separate scale."""

    def __init__(self, name: str, ratio: float) -> None:
        super().__init__()
        self.function, self.ratio = SUMS[name], ratio

    def forward(self, x: Tensor) -> Tensor:
        return quantized(self.function(quantized(x * self.ratio, self.ratio), quantized(x, 1)), 1)


class Together(nn.Module):
    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(x) for part in self.parts)


def whole_numbers() -> Tensor:
    shape = 1, CHANNELS, SIZE, SIZE
    return torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(1)).float()


def program(model: nn.Module) -> ExportedProgram:
    return torch.export.export(model.eval(), (whole_numbers(),))


def weighted(ratio: float) -> list[nn.Module]:
    return [Weighted(name, ratio, channels) for name in WEIGHTED for channels in (False, True)]


def test_scales_below_the_limits_give_the_right_values() -> None:
    pairs = [Pair(name, 2.0 ** (LIMITS[name] - 1)) for name in SUMS]
    small = [Weighted(name, 2.0**-20, True, bias=100.0) for name in WEIGHTED]
    model = Together([*weighted(255.0), *small, *pairs])
    found = load(lower(program(model)).program)([whole_numbers()])
    wanted = model(whole_numbers())
    levels = [compare(*each).sqnr for each in zip(wanted, found, strict=True)]
    assert min(levels) > 30, levels


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_weighted_operator_beyond_the_limit_is_named_with_its_scales(
    name: str, per_channel: bool
) -> None:
    with pytest.raises(LoweringError, match=r"\(expected less than 256 for XNNPACK\)") as caught:
        lower(program(Weighted(name, 256.0, per_channel)))
    assert "input scale 1 * weight scale 256 / output scale 1 is 256" in str(caught.value)
    assert "Keep it in float: quantizer.set_operator_type(" in str(caught.value)


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_or_product_beyond_the_limit_is_named_with_its_scales(name: str) -> None:
    with pytest.raises(LoweringError, match=rf"^{name}(_1)?: input scale .* / output scale 1 is"):
        lower(program(Pair(name, 2.0 ** LIMITS[name])))


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_bias_beyond_32_bits_is_named(name: str) -> None:
    with pytest.raises(LoweringError, match=r"its bias is 2\.68e\+10 steps"):
        lower(program(Weighted(name, 2.0**-25, True, bias=100.0)))


def test_the_limits_are_those_of_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notices when XNNPACK accepts more: without the check it does not load, or is wrong."""
    monkeypatch.setattr(passes, "check_scales", lambda program: None)
    beyond = lower(program(Weighted("linear", 256.0, False))).program
    with pytest.raises(RuntimeError, match="Failed to load"):
        load(beyond)
    model = Together([Pair("add", 2.0**20), Pair("sub", 2.0**20), Pair("mul", 2.0**24)])
    found = load(lower(program(model)).program)([whole_numbers()])
    wanted = model(whole_numbers())
    assert max(compare(*each).sqnr for each in zip(wanted, found, strict=True)) < 10


def test_features_of_six_decades_are_answered_and_the_line_in_the_answer_helps() -> None:
    model = Tabular(decades=6)
    batches = features(units=model.units)
    with pytest.raises(LoweringError, match=r"^linear: input scale .* weight scale") as caught:
        quantize(model, batches)
    assert not isinstance(caught.value, LoadError)
    line = re.search(r"quantizer\.set_.*$", str(caught.value))
    assert line is not None
    quantizer = qreg.get_quantizer("xnnpack")
    eval(line[0], {"quantizer": quantizer})
    healed = quantize(model, batches, quantizer=quantizer)
    assert sqnr(model, healed) > 25
    assert healed.decided["annotated"] > 0
