"""Programs that take and give integers: equal to those in float, and nothing is left to a CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.errors import InputError
from qreg_arm.targets import ETHOS_U

SHAPE = (1, 3, 9, 7)
NPUS = [target.name for target in ETHOS_U]


class Net(nn.Module):
    """Odd sizes, which TOSA has in another layout, and an output between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 7, 3), nn.Conv2d(7, 5, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = torch.relu(self.first(x))
        return {"hidden": hidden, "scores": self.second(hidden)}


def net() -> nn.Module:
    torch.manual_seed(0)
    return Net()


def integers(info: Any) -> Tensor:
    """Values of the whole range of a quantized tensor."""
    torch.manual_seed(2)
    ends = info.qparams.quant_min, info.qparams.quant_max + 1
    return torch.randint(*ends, info.shape).to(getattr(torch, info.dtype))


def by_hand(info: Any, values: Tensor) -> Tensor:
    if info.qparams is None:
        return values
    assert str(values.dtype) == f"torch.{info.dtype}"
    return (values.float() - info.qparams.zero_point) * torch.tensor(info.qparams.scale)


@pytest.mark.parametrize("config", ["int8_static_per_channel", "int16_static_per_channel"])
@pytest.mark.parametrize("io", ["int8", {"x": "int8"}, {"x": "int8", "hidden": "int8"}], ids=str)
def test_integers_give_what_their_values_give_in_float(
    io: Any, config: str, quantized: Any
) -> None:
    given = {"config": config, "min_sqnr": 0.0}
    result, in_float = quantized(net(), SHAPE, io=io, **given), quantized(net(), SHAPE, **given)
    (x,), outputs = result.signature.inputs, result.signature.outputs
    values = integers(x)
    got, wanted = result.run(values), in_float.run(by_hand(x, values))
    for info in outputs:
        assert (info.qparams is not None) == (io == "int8" or info.name in io)
        assert torch.equal(by_hand(info, got[info.name]), wanted[info.name])
    assert result.counts == in_float.counts
    assert len(result.lowered.conversions) == sum(info.qparams is None for info in (x, *outputs))


@pytest.mark.parametrize("backend", NPUS)
def test_a_program_for_an_npu_has_no_operator_outside_and_its_qparams(
    backend: str, quantized: Any
) -> None:
    from executorch.runtime import Runtime

    result = quantized(net(), SHAPE, backend=backend, io="int8")
    assert list(result.lowered.outside) == []
    program = Runtime.get().load_program(result.program)
    (x,), (_, scores) = result.signature.inputs, result.signature.outputs
    for name, info in (("x", x), ("output_1", scores)):
        scale, zero_point = (
            program.load_method(f"{name}_{part}").execute([])[0] for part in ("scale", "zero_point")
        )
        assert (scale, zero_point) == (info.qparams.scale, info.qparams.zero_point)


def test_an_output_that_is_computed_in_float_has_no_scale(quantized: Any) -> None:
    quantizer = qreg.get_quantizer("arm").set_module_name("second", None)
    with pytest.raises(InputError, match="output 'scores' is computed in float by conv2d_1"):
        quantized(net(), SHAPE, quantizer=quantizer, io="int8")
