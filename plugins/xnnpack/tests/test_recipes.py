"""Recipes with the real backend: the same bytes, in this process and in another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg

DYNAMIC = "int8_dynamic_per_channel"


class Convolutions(nn.Module):
    """A convolution with a batch norm, a depthwise one with one large channel, and a linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.depthwise, self.head = nn.Conv2d(8, 8, 3, groups=8), nn.Linear(8, 4)
        self.depthwise.weight.data[0] *= 50
        self.norm.running_mean.uniform_()
        self.norm.running_var.uniform_(0.5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(torch.relu(self.depthwise(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])  # type: ignore[no-any-return]


class Shared(nn.Module):
    """A layer that is called twice, and one that shares its weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.other(torch.relu(self.one(x))) + self.one(x)  # type: ignore[no-any-return]


def data(*shape: int) -> list[tuple[Tensor]]:
    random = torch.Generator().manual_seed(1)
    return [(torch.randn(shape, generator=random),) for _ in range(8)]


IMAGES, ROWS, SEQUENCES = data(2, 3, 12, 12), data(4, 8), data(1, 3, 8)


@pytest.mark.parametrize(
    ("model", "batches", "options"),
    [
        (Convolutions, IMAGES, {"algorithms": "auto"}),
        (Convolutions, IMAGES, {"algorithms": "auto", "config": DYNAMIC}),
        (Recurrent, SEQUENCES, {}),
        (Shared, ROWS, {"algorithms": "auto"}),
    ],
    ids=["convolutions", "dynamic", "lstm", "shared weights"],
)
def test_a_recipe_gives_the_same_program(
    model: Callable[[], nn.Module],
    batches: Sequence[Any],
    options: dict[str, Any],
    tmp_path: Path,
) -> None:
    given = {"verify": False, "progress": False}
    program = torch.export.export(model().eval(), batches[0])
    result = qreg.quantize(program, calibration=batches, **options, **given)
    result.recipe.save(tmp_path / "recipe.toml")
    again = qreg.quantize(program, recipe=tmp_path / "recipe.toml", **given)
    assert again.program == result.program
    assert again.recipe.digest == result.recipe.digest
    if model is Convolutions:
        assert any(each.kept for each in result.algorithms)


def test_the_command_makes_the_same_program_in_another_process(tmp_path: Path) -> None:
    program = torch.export.export(Convolutions().eval(), IMAGES[0])
    torch.export.save(program, tmp_path / "model.pt2")
    quantizer = qreg.get_quantizer("xnnpack").set_operator("head", "aten.linear.default", 0, None)
    result = qreg.quantize(program, quantizer=quantizer, calibration=IMAGES, progress=False)
    result.recipe.save(tmp_path / "recipe.toml")
    command = [sys.executable, "-m", "qreg", "quantize", "model.pt2", "-o", "model.pte"]
    recipes = ["--recipe", "recipe.toml", "--save-recipe", "again.toml"]
    done = subprocess.run([*command, *recipes], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.pte").read_bytes() == result.program
    assert qreg.load_recipe(tmp_path / "again.toml").digest == result.recipe.digest
