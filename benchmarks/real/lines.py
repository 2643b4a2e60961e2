"""Lines of text, drawn with the font of Pillow, as a scanner might see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

TEXTS = Path(__file__).parents[2] / "examples" / "minilm"
HEIGHT = 48  # pixels


@frozen
class Line:
    """A text and its picture, in float from -1 to 1, of shape (1, 3, HEIGHT, width)."""

    text: str
    picture: Tensor


def lines(file: str, count: int, width: int, letters: int, seed: int = 0) -> list[Line]:
    """Draw the first lines of at most ``letters`` characters of a text."""
    chance = np.random.default_rng(seed)
    return [
        Line(text, _drawn(text, width, chance))
        for text, _ in zip(_split(file, letters), range(count), strict=False)
    ]


def _split(file: str, letters: int) -> Iterator[str]:
    for sentence in (TEXTS / file).read_text(encoding="utf-8").splitlines():
        if sentence.isascii():
            yield from wrap(sentence, letters)


def _drawn(text: str, width: int, chance: np.random.Generator) -> Tensor:
    """Draw a text of a random size, place, tilt, contrast, blur and noise."""
    from PIL import Image, ImageDraw, ImageFilter

    font = _fitting(text, width - 12, int(chance.integers(24, 34)))
    paper, ink = int(chance.integers(150, 256)), int(chance.integers(0, 100))
    image = Image.new("L", (width, HEIGHT), paper)
    place = int(chance.integers(2, 8)), int(chance.integers(2, 10))
    ImageDraw.Draw(image).text(place, text, fill=ink, font=font)
    image = image.rotate(chance.uniform(-1.5, 1.5), Image.Resampling.BILINEAR, fillcolor=paper)
    image = image.filter(ImageFilter.GaussianBlur(chance.uniform(0, 1.2)))
    pixels = np.asarray(image, dtype=np.float32) + chance.normal(0, 8, (3, HEIGHT, width))
    scaled = torch.from_numpy(pixels.clip(0, 255)).float() / 127.5 - 1
    return scaled[None].contiguous()


def _fitting(text: str, width: int, size: int) -> Any:
    """Return the font of a size, or of the largest one in which a text fits into a width."""
    from PIL import ImageFont

    length = ImageFont.load_default(size=size).getlength(text)
    return ImageFont.load_default(size=min(size, int(size * width / length)))
