"""The recogniser of PP-OCRv4: a depthwise network (LCNetV3), attention, and CTC's letters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from real.initializers import load_in_order, weights
from real.lines import lines
from real.packages import file_of
from real.subject import Metric, Outputs, Subject

FILE = "models/ch_PP-OCRv4_rec_infer.onnx"
WIDTH, LETTERS, CALIBRATION, HELD_OUT = 320, 24, 32, 40
# kernel, width, attends to channels, stride
BLOCKS: list[tuple[int, int, bool, int | tuple[int, int]]] = [
    *((3, 32, False, 1), (3, 64, False, 1), (3, 64, False, 1)),
    *((3, 128, False, (2, 1)), (3, 128, False, 1), (3, 240, False, (1, 2))),
    *[(5, 240, False, 1)] * 4,
    *((5, 480, True, (2, 1)), (5, 480, True, 1), (5, 480, False, (2, 1)), (5, 480, False, 1)),
]
HEADS, WIDE = 8, 120


class Affine(nn.Module):
    """A learned scale and shift for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.shift


def _activated(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, Affine(), nn.Hardswish(), Affine())


class Squeeze(nn.Module):
    """Attention to channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.adaptive_avg_pool2d(x, 1)
        return x * functional.hardsigmoid(self.up(functional.relu(self.down(pooled))))


def _block(
    inputs: int, kernel: int, width: int, attends: bool, stride: int | tuple[int, int]
) -> nn.Sequential:
    depthwise = nn.Conv2d(inputs, inputs, kernel, stride, kernel // 2, groups=inputs)
    squeeze = [Squeeze(inputs)] if attends else []
    return nn.Sequential(_activated(depthwise), *squeeze, _activated(nn.Conv2d(inputs, width, 1)))


def _swish(inputs: int, outputs: int, kernel: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, (1, kernel), padding=(0, kernel // 2), bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.SiLU())


class Mixer(nn.Module):
    """A block of a transformer, norms first."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LayerNorm(WIDE)
        self.qkv, self.out = nn.Linear(WIDE, 3 * WIDE), nn.Linear(WIDE, WIDE)
        self.second = nn.LayerNorm(WIDE)
        self.wide, self.narrow = nn.Linear(WIDE, 2 * WIDE), nn.Linear(2 * WIDE, WIDE)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        split = self.qkv(self.first(x)).view(batch, length, 3, HEADS, WIDE // HEADS)
        attended = functional.scaled_dot_product_attention(*split.permute(2, 0, 3, 1, 4).unbind())
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, WIDE))
        return x + self.narrow(functional.silu(self.wide(self.second(x))))


class Recogniser(nn.Module):
    """The shares of 6625 letters at 40 places, for lines of shape (1, 3, 48, 320)."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(16))
        widths = [16, *(width for _, width, *_ in BLOCKS)]
        self.blocks = nn.Sequential(
            *(_block(inputs, *row) for inputs, row in zip(widths, BLOCKS, strict=False))
        )
        self.reduce = nn.Sequential(_swish(480, 60, 3), _swish(60, WIDE))
        self.mixers = nn.Sequential(Mixer(), Mixer())
        self.norm = nn.LayerNorm(WIDE, eps=1e-6)
        self.restore = _swish(WIDE, 480)
        self.join = nn.Sequential(_swish(960, 60, 3), _swish(60, WIDE))
        self.letters = nn.Linear(WIDE, 6625)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.avg_pool2d(self.blocks(self.stem(x)), (3, 2))
        tokens = self.norm(self.mixers(self.reduce(x).flatten(2).transpose(1, 2)))
        restored = self.restore(tokens.transpose(1, 2).unsqueeze(2))
        joined = self.join(torch.cat([x, restored], 1))
        return self.letters(joined.squeeze(2).transpose(1, 2)).softmax(2)


def network() -> tuple[Recogniser, list[str]]:
    """Return the net with the weights of its package, and the letters: a blank is the first."""
    found = Recogniser().eval()
    path = file_of("rapidocr_onnxruntime", FILE, "rapidocr-onnxruntime")
    read = weights(path)
    load_in_order(found, read.tensors)
    return found, ["", *read.metadata["character"].splitlines(), " "]


def subject() -> Subject:
    """Return the net with lines of English, judged by the share of characters that are right."""
    model, letters = network()
    calibration = lines("calibration.txt", CALIBRATION, WIDTH, LETTERS)
    held_out = lines("evaluation.txt", HELD_OUT, WIDTH, LETTERS, seed=1)
    batches = [[(line.picture,) for line in each] for each in (calibration, held_out)]
    texts = [line.text for line in held_out]
    right = Metric("characters", lambda outputs: _right(outputs, texts, letters))
    return Subject("ocr_recogniser", model, *batches, (right,))


def _right(outputs: Outputs, texts: list[str], letters: list[str]) -> float:
    """Return 1 less the edits that the texts read need, for each character."""
    edits = sum(map(_distance, (_read(each[0], letters) for each in outputs), texts))
    return 1 - edits / sum(map(len, texts))


def _read(shares: Tensor, letters: list[str]) -> str:
    """Read the likeliest letters, of which repeated ones count once (CTC, Graves et al., 2006)."""
    found = shares.argmax(1).unique_consecutive()
    return "".join(letters[each] for each in found.tolist())


def _distance(one: str, other: str) -> int:
    """Return the number of characters to insert, delete or replace (Levenshtein, 1966)."""
    row = list(range(len(other) + 1))
    for number, mine in enumerate(one, 1):
        left, row[0] = row[0], number
        for place, theirs in enumerate(other, 1):
            left, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, left + (mine != theirs)),
            )
    return row[-1]
