"""Operators that OpenVINO has no conversion for run as the products that they consist of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qreg
from qreg.plugins.registry import installed
from qreg.verification.metrics import compare


class Products(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cube, self.row = nn.Parameter(torch.randn(5, 8, 8)), nn.Parameter(torch.randn(5))
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        y = self.linear(x)
        return (
            F.bilinear(x, y, self.cube, self.row),
            F.bilinear(x[None], y[None], self.cube),
            torch.addmv(y[:, 0], y, v, alpha=2, beta=0.5),
            torch.addbmm(y, torch.stack([x, y]), self.linear.weight * torch.ones(2, 1, 1)),
            self.linear(torch.addmv(y[0], y.mT, v[:4])[None]),
        )


def test_bilinear_addmv_and_addbmm_run_in_float() -> None:
    model, inputs = Products().eval(), (torch.randn(4, 8), torch.randn(8))
    program = qreg.lower(model, inputs, backend="openvino").program
    outputs = installed().backend("openvino").value.load(program)(inputs)
    for wanted, output in zip(model(*inputs), outputs, strict=True):
        assert compare(wanted.detach(), output).sqnr > 90


def test_they_run_between_int8_operators() -> None:
    model = Products().eval()
    batches = [(torch.randn(4, 8), torch.randn(8)) for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, backend="openvino")
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_converted) > 40
    assert min(each.sqnr for each in result.verification.to_float) > 20
    assert {each.place for each in result.audit.placements.values()} >= {"int8", "float"}
