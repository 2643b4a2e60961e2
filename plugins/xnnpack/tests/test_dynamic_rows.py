"""The converted model quantizes a dynamic input as the delegate does: each row by its own range."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import qreg
from qreg.graph.nodes import called


class TwoReaders(nn.Module):
    """Two linears that share an input of rows, a linear of one row, and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = nn.Linear(16, 8), nn.Linear(16, 16)
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, rows: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        y = self.one(rows) + 1, self.other(rows).tanh(), self.one(rows[0, 0]).relu()
        return *y, self.conv(image)


def test_rows_of_different_sizes_are_rounded_as_in_the_program() -> None:
    rows = torch.randn(2, 5, 16) * torch.tensor([1.0, 0.1, 3.0, 10.0, 0.5])[:, None]
    inputs = rows, torch.randn(1, 2, 4, 4)
    result = qreg.quantize(
        TwoReaders(), inputs, config="int8_dynamic_per_channel", min_sqnr=0, progress=False
    )
    chosen = [called(n) for n in result.converted.graph.nodes if ".choose_qparams" in called(n)]
    of_rows = "quantized_decomposed.choose_qparams_per_token_asymmetric.default"
    assert sorted(chosen) == [*["quantized_decomposed.choose_qparams.tensor"] * 2, of_rows]
    *linears, _ = result.verification.to_converted
    assert all(each.sqnr > 100 for each in linears)
    assert not result.audit.defects
    assert result.counts["int8"] == 5
