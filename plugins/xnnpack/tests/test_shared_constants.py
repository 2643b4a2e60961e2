"""Weights and biases that serve several calls: every way of lowering gives the right values."""

from __future__ import annotations

import torch
from rows import Call
from torch import Tensor, nn
from torch.nn import functional as F
from torchao.quantization.pt2e import move_exported_model_to_eval

import qreg
from qreg.verification.metrics import compare
from qreg_xnnpack.runtime import load

WIDTH, CHANNELS = 12, 4


def tied(first: nn.Module, second: nn.Module) -> nn.Module:
    second.weight = first.weight
    return nn.ModuleList([first, second])


def weight(*sizes: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(CHANNELS, CHANNELS, *sizes) * 0.3)


class Shared(nn.Module):
    """One output for each way to share, all computed from an image of shape (2, 4, 9, 12)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = CHANNELS, CHANNELS, 3
        self.twice = nn.ModuleDict(
            {
                "conv1d": nn.Conv1d(*sizes),
                "depthwise": nn.Conv1d(*sizes, groups=CHANNELS),
                "same": nn.Conv1d(*sizes, padding="same"),
                "up1d": nn.ConvTranspose1d(*sizes),
                "conv2d": nn.Conv2d(*sizes),
                "up2d": nn.ConvTranspose2d(*sizes),
                "linear": nn.Linear(WIDTH, WIDTH),
            }
        )
        self.tied = nn.ModuleDict(
            {
                "conv1d": tied(nn.Conv1d(*sizes), nn.Conv1d(*sizes, stride=2)),
                "linear": tied(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)),
            }
        )
        self.both1d, self.both2d, self.pointwise = weight(3), weight(3, 3), weight(1)
        self.elementwise = weight(3, 3)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        rows = image[:, :, 0]
        found = {}
        for name, module in self.twice.items():
            x = image if "2d" in name else rows
            found[f"{name} twice"] = module(module(x) * 3 + 1)
        for name, pair in self.tied.items():
            found[f"{name} tied"] = pair[1](pair[0](rows) * 3 + 1)
        up1d, up2d = F.conv_transpose1d, F.conv_transpose2d
        found["conv1d and back"] = up1d(F.conv1d(rows, self.both1d), self.both1d)
        found["conv2d and back"] = up2d(F.conv2d(image, self.both2d), self.both2d)
        projected = F.conv1d(rows, self.pointwise)
        found["conv1d and linear"] = F.linear(projected.mT, self.pointwise[:, :, 0])
        kernel = self.elementwise
        found["conv2d and product"] = F.conv2d(image, kernel) * 2 + (kernel * kernel).sum()
        return found


def sqnrs(wanted: dict[str, Tensor], program: bytes, image: Tensor) -> dict[str, float]:
    outputs = load(program)([image])
    return {
        name: compare(reference, found).sqnr
        for (name, reference), found in zip(wanted.items(), outputs, strict=True)
    }


@torch.no_grad()
def test_a_float_program_is_right_whatever_its_calls_share() -> None:
    model, image = Shared().eval(), torch.randn(2, CHANNELS, 9, WIDTH)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    program = qreg.lower(model, (image,)).program
    found = sqnrs(model(image), program, image)
    assert min(found.values()) > 100, found
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@torch.no_grad()
def test_a_trained_program_is_right_whatever_its_calls_share() -> None:
    model = Shared().eval()
    torch.manual_seed(1)
    batches = [(torch.randn(2, CHANNELS, 9, WIDTH),) for _ in range(4)]
    prepared = qreg.prepare(model, qreg.get_quantizer("xnnpack", "int8_qat_per_tensor"), batches[0])
    for batch in batches:
        prepared(*batch)
    move_exported_model_to_eval(prepared)
    converted = qreg.convert(prepared)
    program = qreg.lower(converted, batches[0]).program
    to_float = sqnrs(model(*batches[0]), program, *batches[0])
    assert min(to_float.values()) > 25, to_float
    to_converted = sqnrs(converted(*batches[0]), program, *batches[0])
    assert min(to_converted.values()) > 35, to_converted


def test_a_bias_that_another_quantizer_shares_is_scaled_for_each_call() -> None:
    """What a quantizer without qreg's transforms makes of a linear that is used twice."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    torch.manual_seed(0)
    model = Call(lambda m, x: m.linear(m.linear(x) * 50), linear=nn.Linear(8, 8)).eval()
    batches = [(torch.randn(4, 8),) for _ in range(4)]
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config())
    prepared = qreg.prepare(model, quantizer, batches[0])
    for batch in batches:
        prepared(*batch)
    converted = qreg.convert(prepared)
    found = load(qreg.lower(converted, batches[0]).program)([*batches[1]])
    with torch.no_grad():
        assert compare(model(*batches[1]), found[0]).sqnr > 30
