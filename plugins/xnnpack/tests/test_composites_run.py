"""Operators that executorch decomposes, between int8 operators: they load, run and are right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qreg
from qreg.verification import verify as verification
from qreg_xnnpack.runtime import load

NAMED: dict[str, Callable[[Tensor], Tensor]] = {
    "narrow": lambda x: x.narrow(1, 0, 2),
    "tensor_split": lambda x: torch.cat(x.tensor_split(2, 1)[::-1], 1),
    "chunk": lambda x: x.chunk(2, 1)[1],
    "split": lambda x: x.split([1, 3], 1)[1],
    "slice_copy": lambda x: torch.slice_copy(x, 1, 0, 2),
    "permute_copy": lambda x: torch.permute_copy(x, (0, 2, 3, 1)),
    "concat": lambda x: torch.concat([x, x + 1], 1),
    "hstack": lambda x: torch.hstack([x, x + 1]),
    "clamp from below": lambda x: x.clamp(min=0.1),
    "clamp from above": lambda x: x.clamp(max=0.1),
    "clip": lambda x: (x + 1).clip_(0.5),
    "clamp_min": lambda x: x.clamp_min(0.1),
    "swapaxes": lambda x: x.swapaxes(1, 2),
    "movedim": lambda x: x.movedim(1, 2),
    "unflatten": lambda x: x.unflatten(1, (2, 2)).flatten(1, 2),
    "reshape_as": lambda x: x.reshape_as(x.view(1, 2, -1)),
    "multiply": lambda x: torch.multiply(x, x),
    "subtract": lambda x: torch.subtract(x, x.relu()),
    "square": lambda x: x.square(),
    "true_divide": lambda x: x.true_divide(2.0),
    "silu": F.silu,
    "hardswish": F.hardswish,
    "threshold": lambda x: F.threshold(x, 0.1, 0.0),
    "stack": lambda x: torch.stack([x, x + 1]),
    "unbind": lambda x: x.unbind(1)[1],
    "glu": lambda x: F.glu(x, 1),
    "addcmul": lambda x: torch.addcmul(x, x, x),
    "lerp": lambda x: torch.lerp(x, x.relu(), 0.3),
    "tile": lambda x: x.tile(1, 2, 1, 1),
    "fliplr": lambda x: x.fliplr(),
}
INT8 = {"slice", "cat", "hardtanh", "permute", "transpose", "view", "mul", "sub", "add"}


class Network(nn.Module):
    def __init__(self, names: list[str]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.names = names
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in names)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(self.names, self.convs, strict=True)
        return tuple(NAMED[name](conv(x)) * 1.5 for name, conv in pairs)


@pytest.mark.parametrize("part", [0, 1])
def test_decomposed_operators_run_between_int8_ones(part: int) -> None:
    names = list(NAMED)[part::2]
    model = Network(names).eval()
    torch.manual_seed(1)
    batches = [(torch.randn(1, 4, 8, 8),) for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, progress=False)
    with torch.no_grad():
        wanted = model(*batches[1])
    for name, one, other in zip(names, wanted, result.run(*batches[1]), strict=True):
        assert verification.compare_all([[other]], [[one]])[0].sqnr > 25, name
    moved = [each for each in result.decisions if each.operator.split(".")[1] in INT8]
    assert {each.operator for each in moved if not each.quantized} <= {"aten.view.default"}


def test_a_clamp_with_one_bound_runs_in_float_too() -> None:
    class Clamps(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return x.clamp(min=0.1), x.clamp(max=0.1), x.clip(0.2), x.clamp_max(0.3)

    x = torch.randn(1, 4, 8, 8)
    runner = load(qreg.lower(Clamps(), (x,)).program)
    torch.testing.assert_close(tuple(runner([x])), Clamps()(x), rtol=0, atol=0)


def test_linears_with_odd_weights_stay_in_float_and_run() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.vector = nn.Linear(4, 4), nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(self.first(x), self.vector)

    model, x = Odd().eval(), torch.randn(3, 2, 4)
    result = qreg.quantize(model, (x,), calibration=[(x,)], progress=False)
    reasons = [each.reason for each in result.decisions if not each.quantized]
    assert reasons == ["its weight has shape (4,): only matrices with elements are quantized"]
    assert verification.compare_all([[result.run(x)]], [[model(x)]])[0].sqnr > 25
