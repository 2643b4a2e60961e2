"""An activation that is not monotone is computed on what a max pool gives, not ahead of it."""

from __future__ import annotations

from typing import Any

import torch
from chains import Side
from torch import Tensor, nn
from torch.nn import functional as F

import qreg
from qreg.plugins.registry import installed

IMAGE, SIGNAL, VOLUME = (1, 4, 8, 8), (1, 4, 16), (1, 4, 5, 5, 5)
ACTIVATIONS: tuple[Any, ...] = (
    torch.abs,
    F.hardswish,
    F.silu,
    F.gelu,
    lambda x: F.leaky_relu(x, -0.5),
    lambda x: F.elu(x, -0.5),
    torch.relu,
)
CONVOLUTIONS: dict[tuple[int, ...], Any] = {
    SIGNAL: (nn.Conv1d, F.max_pool1d),
    IMAGE: (nn.Conv2d, F.max_pool2d),
    VOLUME: (nn.Conv3d, F.max_pool3d),
}


class Pooled(nn.Module):
    """A convolution, a max pool of mostly negative values, perhaps a view, and an activation."""

    def __init__(self, shape: tuple[int, ...], activation: Any, view: Any) -> None:
        super().__init__()
        make, self.pool = CONVOLUTIONS[shape]
        self.conv, self.activation, self.view = make(4, 4, 3, padding=1), activation, view
        nn.init.constant_(self.conv.bias, -1.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.view(self.pool(self.conv(x), 3, 1, 1)))


def models() -> tuple[list[nn.Module], list[tuple[int, ...]]]:
    torch.manual_seed(0)
    views = [lambda x: x, lambda x: x.flatten(1), lambda x: x.transpose(-1, -2)]
    cases = [(shape, each, views[0]) for shape in CONVOLUTIONS for each in ACTIVATIONS]
    cases += [(IMAGE, each, view) for view in views[1:] for each in ACTIVATIONS]
    return [Pooled(*case) for case in cases], [case[0] for case in cases]


def test_a_float_program_is_right() -> None:
    made, shapes = models()
    model, inputs = Side(made).eval(), tuple(map(torch.randn, shapes))
    lowered = qreg.lower(model, inputs, backend="openvino")
    found = installed().backend("openvino").value.load(lowered.program)(list(inputs))
    with torch.no_grad():
        torch.testing.assert_close(tuple(found), model(*inputs), rtol=1e-4, atol=1e-5)


def test_an_int8_program_is_right_in_front_of_another_product() -> None:
    made, shapes = models()
    model = Side(
        [
            nn.Sequential(each, nn.Linear(each(torch.rand(shape)).shape[-1], 4))
            for each, shape in zip(made, shapes, strict=True)
        ]
    )
    batches = [tuple(map(torch.randn, shapes)) for _ in range(4)]
    result = qreg.quantize(model.eval(), batches[0], calibration=batches, backend="openvino")
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_converted) > 30
    assert min(each.sqnr for each in result.verification.to_float) > 20
