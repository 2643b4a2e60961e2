"""The net of PP-OCR that tells whether a line is upside down: MobileNetV3, 0.35 wide."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from real.initializers import load_in_order, weights
from real.lines import lines
from real.packages import file_of
from real.subject import Subject, accuracy

FILE = "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
WIDTH, LETTERS, CALIBRATION, HELD_OUT = 192, 16, 32, 150
Stride: TypeAlias = int | tuple[int, int]
# kernel, expanded width, width, attends to channels, activation, stride
BLOCKS: list[tuple[int, int, int, bool, type[nn.Module], Stride]] = [
    (3, 8, 8, True, nn.ReLU, (2, 1)),
    (3, 24, 8, False, nn.ReLU, (2, 1)),
    (3, 32, 8, False, nn.ReLU, 1),
    (5, 32, 16, True, nn.Hardswish, (2, 1)),
    (5, 88, 16, True, nn.Hardswish, 1),
    (5, 88, 16, True, nn.Hardswish, 1),
    (5, 40, 16, True, nn.Hardswish, 1),
    (5, 48, 16, True, nn.Hardswish, 1),
    (5, 104, 32, True, nn.Hardswish, (2, 1)),
    (5, 200, 32, True, nn.Hardswish, 1),
    (5, 200, 32, True, nn.Hardswish, 1),
]


def _conv(
    inputs: int, outputs: int, kernel: int = 1, stride: Stride = 1, groups: int = 1
) -> nn.Sequential:
    padding = kernel // 2
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Squeeze(nn.Module):
    """Attention to channels, with a hard sigmoid of Paddle's slope."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, width // 4, 1)
        self.up = nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.up(functional.relu(self.down(functional.adaptive_avg_pool2d(x, 1))))
        return x * (0.2 * gate + 0.5).clamp(0, 1)


class Block(nn.Module):
    """An inverted residual of MobileNetV3."""

    def __init__(
        self,
        inputs: int,
        kernel: int,
        wide: int,
        outputs: int,
        attends: bool,
        activation: type[nn.Module],
        stride: Stride,
    ) -> None:
        super().__init__()
        self.expand = _conv(inputs, wide)
        self.depthwise = _conv(wide, wide, kernel, stride, wide)
        self.squeeze = Squeeze(wide) if attends else nn.Identity()
        self.project = _conv(wide, outputs)
        self.activation = activation()
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        inner = self.activation(self.depthwise(self.activation(self.expand(x))))
        out = self.project(self.squeeze(inner))
        return x + out if self.adds else out


class Orientation(nn.Module):
    """The shares of upright and upside down, for lines of shape (1, 3, 48, 192)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 8, 3, 2), nn.Hardswish())
        widths = [8, *(outputs for _, _, outputs, *_ in BLOCKS)]
        self.blocks = nn.Sequential(
            *(Block(inputs, *row) for inputs, row in zip(widths, BLOCKS, strict=False))
        )
        self.last = nn.Sequential(_conv(32, 200), nn.Hardswish())
        self.classifier = nn.Linear(200, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.last(self.blocks(self.stem(x))), 2)
        return self.classifier(x.mean([2, 3])).softmax(1)


def network() -> Orientation:
    """Return the net with the weights of its package."""
    found = Orientation().eval()
    path = file_of("rapidocr_onnxruntime", FILE, "rapidocr-onnxruntime")
    load_in_order(found, weights(path).tensors)
    return found


def subject() -> Subject:
    """Return the net with lines of which every other one is upside down."""
    calibration = lines("calibration.txt", CALIBRATION, WIDTH, LETTERS)
    held_out = lines("evaluation.txt", HELD_OUT, WIDTH, LETTERS, seed=1)
    turned = [
        [(_turned(line.picture, number % 2),) for number, line in enumerate(each)]
        for each in (calibration, held_out)
    ]
    labels = torch.arange(len(held_out)) % 2
    return Subject("ocr_orientation", network(), *turned, (accuracy(labels, "orientation"),))


def _turned(picture: Tensor, times: int) -> Tensor:
    """Turn a picture by 180 degrees, or not at all."""
    return torch.rot90(picture, 2 * times, (2, 3)).contiguous()
