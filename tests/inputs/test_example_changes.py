"""Pins the change to example inputs that the error of a failed export names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from qreg.errors import ExportError
from qreg.programs.export import exported


class Net(nn.Module):
    """Takes a batch of images alone: neither a norm nor a linear accepts a lone image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


class Captioner(Net):
    """Takes images and the numbers of words, which are integers and stay so."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 2)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        return super().forward(x) + self.words(words)


PIXELS = torch.randint(0, 255, (2, 3, 8, 8), dtype=torch.uint8)
IMAGES = torch.randn(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("example", "change"),
    [
        (PIXELS, ".float() on input 0, uint8 (2, 3, 8, 8)"),
        (IMAGES.double(), ".float() on input 0, float64 (2, 3, 8, 8)"),
        (IMAGES[0], ".unsqueeze(0) on input 0, float32 (3, 8, 8)"),
        (PIXELS[0], ".float().unsqueeze(0) on input 0, uint8 (3, 8, 8)"),
        (IMAGES.permute(0, 2, 3, 1), ".permute(0, 3, 1, 2) on input 0, float32 (2, 8, 8, 3)"),
        (PIXELS[0].permute(1, 2, 0), ".float().permute(2, 0, 1).unsqueeze(0) on input 0"),
    ],
)
def test_the_error_names_the_change_with_which_the_model_exports(
    example: Tensor, change: str
) -> None:
    with pytest.raises(ExportError) as raised:
        exported(Net(), example, None)
    assert f"It exports with {change}" in str(raised.value)
    scaled = ", scaled as for the float model" if example.dtype == torch.uint8 else ""
    assert f"example_inputs and the calibration batches so{scaled}." in str(raised.value)


def test_the_change_is_right_for_the_dtype_of_the_model() -> None:
    with pytest.raises(ExportError, match=r"It exports with \.double\(\) on input 0"):
        exported(Net().double(), IMAGES, None)


def test_an_input_that_fits_is_left_alone() -> None:
    with pytest.raises(ExportError, match=r"with \.float\(\) on input 0, uint8 [^;]*\. Change"):
        exported(Captioner(), (PIXELS, torch.tensor([1, 2])), None)


class Refusing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return x + 1


def test_an_error_that_no_change_mends_is_torchs_alone() -> None:
    with pytest.raises(ExportError, match="could not export Refusing") as raised:
        exported(Refusing(), IMAGES, None)
    assert "It exports with" not in str(raised.value)
    assert raised.value.__cause__ is not None


class Normalizing(Net):
    """Takes pixels as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / 255)


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (Normalizing(), PIXELS),
        (nn.Embedding(10, 4), torch.tensor([[1, 2]], dtype=torch.int32)),
        (nn.Conv2d(3, 4, 3), IMAGES[0]),
        (nn.Linear(8, 2), torch.randn(8)),
    ],
)
def test_pixels_and_lone_images_are_taken_where_the_model_takes_them(
    model: nn.Module, example: Any
) -> None:
    program, (given,) = exported(model.eval(), example, None)
    assert torch.equal(program.module()(given), model(example))


BATCH = Dim("batch")
FIXED = "It exports with a size of 2 in dimension 0: torch.export takes a size of 1 as fixed."


@pytest.mark.parametrize(
    ("shape", "dynamic_shapes", "remedy"),
    [
        ((1, 8), ({0: BATCH},), FIXED),
        ((2, 8), ({1: BATCH},), "It exports without dynamic_shapes: correct these."),
        ((2, 8), {"x": {0: BATCH}}, "It exports without dynamic_shapes: correct these."),
    ],
    ids=["a batch of 1", "a fixed dimension", "another name"],
)
def test_dynamic_shapes_that_do_not_fit_are_told_from_the_example(
    shape: tuple[int, ...], dynamic_shapes: Any, remedy: str
) -> None:
    with pytest.raises(ExportError) as raised:
        exported(nn.Linear(8, 4), (torch.randn(shape),), dynamic_shapes)
    assert remedy in str(raised.value)
    assert "unsqueeze" not in str(raised.value)
    assert "draft_export" not in str(raised.value)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.encoder(x, mask=mask)


def test_a_mask_whose_values_torch_reads_has_a_remedy() -> None:
    with pytest.raises(ExportError, match=r"Pass is_causal= to the encoder"):
        exported(Encoder(), (torch.randn(1, 4, 8), torch.zeros(4, 4)), None)
