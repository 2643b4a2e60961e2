"""Batches from a folder of images, with the size and the normalization that a command names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qreg.backends.packages import needed
from qreg.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MODES = {1: "L", 3: "RGB"}  # by the number of channels


def images_in(folder: Path) -> list[Path]:
    """Return the images in a folder and its subfolders, in the order of their paths."""
    return sorted(each for each in folder.rglob("*") if each.suffix.lower() in SUFFIXES)


def read_images(
    folder: Path, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]
) -> Iterator[Tensor]:
    """Yield each image of a folder as a float tensor of shape (channels, height, width).

    ``size`` is (height, width), to which an image is resized, without a crop. Values from 0 to 1
    are normalized per channel: ``(value - mean) / std``. One mean is for gray images, three are for
    RGB.

    Raises ``InputError`` for a folder without images, and for an image that cannot be read.
    """
    import torch

    library = needed("PIL.Image", "pillow", "a folder of images")
    paths = images_in(folder)
    if not paths:
        raise InputError(
            f"{folder}: it has no images (expected files with one of the suffixes "
            f"{', '.join(sorted(SUFFIXES))}). Name the folder that they are in."
        )
    scale = torch.tensor(std).reshape(-1, 1, 1)
    shift = torch.tensor(mean).reshape(-1, 1, 1)
    for path in paths:
        pixels = _pixels(library, path, size, MODES[len(mean)])
        yield (pixels.float() / 255 - shift) / scale


def _pixels(library: Any, path: Path, size: tuple[int, int], mode: str) -> Tensor:
    """Return the pixels of an image as uint8, of shape (channels, height, width)."""
    import torch

    try:
        with library.open(path) as image:
            height, width = size
            found = image.convert(mode).resize((width, height), library.Resampling.BILINEAR)
            data = bytearray(found.tobytes())
    except Exception as cause:  # a damaged image fails in many ways
        raise InputError(
            f"{path}: it cannot be read as an image, {cause} (expected one that Pillow reads). "
            "Remove it from the folder, or convert it."
        ) from cause
    return torch.frombuffer(data, dtype=torch.uint8).reshape(*size, -1).permute(2, 0, 1)
