"""Pins how many bytes the parameters of a model need."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from qreg.analysis.sizes import parameter_bytes, tensor_bytes


class Tied(nn.Module):
    """An embedding whose table is the output projection too, and a buffer that views it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.body = nn.Embedding(100, 8), nn.Linear(8, 8)
        self.output = nn.Linear(8, 100, bias=False)
        self.output.weight = self.embedding.weight
        self.register_buffer("first", self.embedding.weight.data[:3])
        self.register_buffer("scale", torch.ones(2), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.body(self.embedding(ids)) + self.first.sum() + self.scale.sum()
        return self.output(hidden)  # type: ignore[no-any-return]


def test_what_is_tied_counts_once_before_and_behind_a_file(tmp_path: Path) -> None:
    program = torch.export.export(Tied(), (torch.zeros(2, dtype=torch.long),))
    torch.export.save(program, tmp_path / "tied.pt2")
    wanted = 4 * (100 * 8 + 8 * 8 + 8 + 2)
    assert parameter_bytes(program) == wanted
    assert parameter_bytes(torch.export.load(tmp_path / "tied.pt2")) == wanted


def test_views_count_what_they_cover() -> None:
    whole = torch.zeros(10, 4)
    assert tensor_bytes([whole[:3], whole[2:5]]) == 4 * 5 * 4
    assert tensor_bytes([whole.t(), whole]) == 4 * 40
    assert tensor_bytes([torch.zeros(1).expand(1000)]) == 4
    assert tensor_bytes([whole[:2], whole[:2].clone(), torch.zeros(0)]) == 2 * 4 * 8
    assert tensor_bytes([torch.zeros(3, dtype=torch.int8)]) == 3
