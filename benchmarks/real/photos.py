"""Photos of scikit-image and scikit-learn, and crops of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from real.packages import file_of

FILES = {
    "skimage": [
        *("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png"),
        *("motorcycle_right.png", "rocket.jpg", "ihc.png", "retina.jpg", "hubble_deep_field.jpg"),
    ],
    "sklearn": ["china.jpg", "flower.jpg"],
}
FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


@cache
def photos() -> list[Tensor]:
    """Return photos of shape (3, height, width), in float from 0 to 255."""
    return [
        _pixels(package, f"{FOLDERS[package]}/{name}")
        for package, names in FILES.items()
        for name in names
    ]


def _pixels(package: str, path: str) -> Tensor:
    from PIL import Image

    with Image.open(file_of(package, path, DISTRIBUTIONS[package])) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float()


def crops(count: int, size: int, sources: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """Return squares of random places and sides, of half to all of a photo, resized to ``size``.

    They have the shape (1, channels, size, size). The sources follow each other in turns.
    """
    chance = torch.Generator().manual_seed(seed)
    return [_crop(sources[number % len(sources)], size, chance) for number in range(count)]


def _crop(photo: Tensor, size: int, chance: torch.Generator) -> Tensor:
    height, width = photo.shape[1:]
    side = int(min(height, width) * (0.5 + 0.5 * float(torch.rand((), generator=chance))))
    top = int(torch.randint(0, height - side + 1, (), generator=chance))
    left = int(torch.randint(0, width - side + 1, (), generator=chance))
    square = photo[None, :, top : top + side, left : left + side]
    return functional.interpolate(square, (size, size), mode="bilinear", antialias=True)
