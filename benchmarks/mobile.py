"""Small models of the kinds that run on devices, in plain PyTorch, with random weights.

The blocks are those of the papers; widths and depths are reduced.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """A convolution, a batch norm and an activation."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(
        layer, nn.BatchNorm2d(outputs), *([activation()] if activation is not None else [])
    )


class Bottleneck(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(width, width, 3, activation=nn.SiLU)
        self.second = conv(width, width, 3, activation=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class SplitBlock(nn.Module):
    """The C2f block of YOLOv8: half of the channels go through bottlenecks."""

    def __init__(self, inputs: int, outputs: int, count: int = 1) -> None:
        super().__init__()
        half = outputs // 2
        self.entry = conv(inputs, outputs, activation=nn.SiLU)
        self.bottlenecks = nn.ModuleList(Bottleneck(half) for _ in range(count))
        self.exit = conv((2 + count) * half, outputs, activation=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.entry(x).chunk(2, 1))
        for bottleneck in self.bottlenecks:
            parts.append(bottleneck(parts[-1]))
        return self.exit(torch.cat(parts, 1))


class PyramidPool(nn.Module):
    """The SPPF block of YOLO: three max pools in a row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.entry = conv(width, width // 2, activation=nn.SiLU)
        self.exit = conv(width * 2, width, activation=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [self.entry(x)]
        for _ in range(3):
            pooled.append(functional.max_pool2d(pooled[-1], 5, 1, 2))
        return self.exit(torch.cat(pooled, 1))


class Yolo(nn.Module):
    """A detector of YOLOv8's blocks with two scales; boxes and scores of all cells."""

    def __init__(self, width: int = 16, classes: int = 20) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv(3, width, 3, 2, activation=nn.SiLU),
            conv(width, 2 * width, 3, 2, activation=nn.SiLU),
            SplitBlock(2 * width, 2 * width),
            conv(2 * width, 4 * width, 3, 2, activation=nn.SiLU),
        )
        self.fine = SplitBlock(4 * width, 4 * width, 2)
        self.coarse = nn.Sequential(
            conv(4 * width, 8 * width, 3, 2, activation=nn.SiLU),
            SplitBlock(8 * width, 8 * width),
            PyramidPool(8 * width),
        )
        self.merged = SplitBlock(12 * width, 4 * width)
        self.heads = nn.ModuleList(
            nn.Conv2d(channels * width, 4 + classes, 1) for channels in (4, 8)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(self.stem(x))
        coarse = self.coarse(fine)
        wide = functional.interpolate(coarse, scale_factor=2, mode="nearest")
        maps = self.merged(torch.cat([wide, fine], 1)), coarse
        cells = [head(each).flatten(2) for head, each in zip(self.heads, maps, strict=True)]
        boxes, scores = torch.cat(cells, 2).split([4, self.heads[0].out_channels - 4], 1)
        return boxes, scores.sigmoid()


class ShuffleUnit(nn.Module):
    """The unit of ShuffleNetV2, with stride 1 or 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, half = stride, outputs // 2
        entering = inputs if stride > 1 else half
        self.branch = nn.Sequential(
            conv(entering, half),
            conv(half, half, 3, stride, half, None),
            conv(half, half),
        )
        self.shortcut = nn.Sequential(
            conv(inputs, inputs, 3, stride, inputs, None), conv(inputs, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            joined = torch.cat([self.shortcut(x), self.branch(x)], 1)
        else:
            kept, changed = x.chunk(2, 1)
            joined = torch.cat([kept, self.branch(changed)], 1)
        batch, channels, height, width = joined.shape
        pairs = joined.view(batch, 2, channels // 2, height, width)
        return pairs.transpose(1, 2).contiguous().view(batch, channels, height, width)


class ShuffleNet(nn.Module):
    def __init__(self, widths: tuple[int, ...] = (24, 116, 232, 464)) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, widths[0], 3, 2), nn.MaxPool2d(3, 2, 1))
        units: list[nn.Module] = []
        for inputs, outputs, count in zip(widths, widths[1:], (3, 7, 3), strict=False):
            units.append(ShuffleUnit(inputs, outputs, 2))
            units += (ShuffleUnit(outputs, outputs, 1) for _ in range(count))
        self.units = nn.Sequential(*units)
        self.last = conv(widths[-1], 1024)
        self.classifier = nn.Linear(1024, 100)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.last(self.units(self.stem(x))).mean([2, 3]))


class KeywordSpotter(nn.Module):
    """DS-CNN of MLPerf Tiny: spectrograms of 49 frames and 10 features."""

    def __init__(self, width: int = 64, classes: int = 12) -> None:
        super().__init__()
        entry = nn.Conv2d(1, width, (10, 4), (2, 2), (5, 1))
        self.entry = nn.Sequential(entry, nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(
            *(nn.Sequential(conv(width, width, 3, 1, width), conv(width, width)) for _ in range(4))
        )
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        image = self.blocks(self.entry(x))
        return self.classifier(functional.avg_pool2d(image, image.shape[2:]).flatten(1))


class Squeeze(nn.Module):
    def __init__(self, width: int, reduced: int, gate: type[nn.Module]) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, reduced, 1), nn.Conv2d(reduced, width, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.adaptive_avg_pool2d(x, 1)
        return x * self.gate(self.up(functional.relu(self.down(pooled))))


class Inverted(nn.Module):
    """The block of MobileNetV3, and, with SiLU and sigmoid, of EfficientNet."""

    def __init__(
        self,
        inputs: int,
        expanded: int,
        outputs: int,
        kernel: int,
        stride: int,
        squeezed: bool,
        activation: type[nn.Module],
        gate: type[nn.Module] = nn.Hardsigmoid,
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            conv(inputs, expanded, activation=activation),
            conv(expanded, expanded, kernel, stride, expanded, activation),
            Squeeze(expanded, max(8, expanded // 4), gate) if squeezed else nn.Identity(),
            conv(expanded, outputs, activation=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileNetV3(nn.Module):
    """MobileNetV3-small, with the layers of its paper."""

    ROWS = (
        (16, 16, 16, 3, 2, True, nn.ReLU),
        (16, 72, 24, 3, 2, False, nn.ReLU),
        (24, 88, 24, 3, 1, False, nn.ReLU),
        (24, 96, 40, 5, 2, True, nn.Hardswish),
        (40, 240, 40, 5, 1, True, nn.Hardswish),
        (40, 240, 40, 5, 1, True, nn.Hardswish),
        (40, 120, 48, 5, 1, True, nn.Hardswish),
        (48, 144, 48, 5, 1, True, nn.Hardswish),
        (48, 288, 96, 5, 2, True, nn.Hardswish),
        (96, 576, 96, 5, 1, True, nn.Hardswish),
        (96, 576, 96, 5, 1, True, nn.Hardswish),
    )

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv(3, 16, 3, 2, activation=nn.Hardswish),
            *(Inverted(*row) for row in self.ROWS),
            conv(96, 576, activation=nn.Hardswish),
        )
        self.classifier = nn.Sequential(
            nn.Linear(576, 1024), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(1024, 100)
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(pooled.flatten(1))


class EfficientNet(nn.Module):
    """Blocks of EfficientNet: SiLU, and squeeze and excitation with a sigmoid."""

    ROWS = ((16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 40, 2), (40, 40, 1), (40, 80, 2))

    def __init__(self) -> None:
        super().__init__()
        rows = [(inputs, 6 * inputs, outputs, 3, stride) for inputs, outputs, stride in self.ROWS]
        self.features = nn.Sequential(
            conv(3, 16, 3, 2, activation=nn.SiLU),
            *(Inverted(*row, True, nn.SiLU, nn.Sigmoid) for row in rows),
            conv(80, 640, activation=nn.SiLU),
        )
        self.classifier = nn.Linear(640, 100)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(functional.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class ConformerBlock(nn.Module):
    """Feed-forward, attention, convolution with a gated linear unit, and feed-forward."""

    def __init__(self, width: int, heads: int = 4, kernel: int = 15) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(5))
        self.feed = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))
            for _ in range(2)
        )
        self.heads, self.project = heads, nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.expand = nn.Conv1d(width, 2 * width, 1)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.BatchNorm1d(width)
        self.reduce = nn.Conv1d(width, width, 1)

    def attend(self, x: Tensor) -> Tensor:
        batch, frames, width = x.shape
        split = self.project(x).view(batch, frames, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.joined(mixed.transpose(1, 2).reshape(batch, frames, width))

    def convolve(self, x: Tensor) -> Tensor:
        image = functional.glu(self.expand(x.transpose(1, 2)), 1)
        return self.reduce(functional.silu(self.norm(self.depthwise(image)))).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.feed[0](self.norms[0](x))
        x = x + self.attend(self.norms[1](x))
        x = x + self.convolve(self.norms[2](x))
        x = x + self.feed[1](self.norms[3](x)) / 2
        return self.norms[4](x)


class Conformer(nn.Module):
    """Blocks over frames of features, and a class for the mean of the frames."""

    def __init__(self, features: int = 80, width: int = 144, blocks: int = 2) -> None:
        super().__init__()
        self.entry = nn.Linear(features, width)
        self.blocks = nn.Sequential(*(ConformerBlock(width) for _ in range(blocks)))
        self.classifier = nn.Linear(width, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.entry(x)).mean(1))
