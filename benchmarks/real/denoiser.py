"""A UNet that removes noise from photos, trained here on patches of some of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from real.photos import crops, photos
from real.subject import Metric, Outputs, Subject
from real.training import descend, trained

SIZE, NOISE = 64, 0.2  # pixels, and the deviation of the noise on values from -1 to 1
ROWS, STEPS, PATCHES = 8, 400, 480
CALIBRATION, HELD_OUT = 32, 48


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        layer = nn.Conv2d(width, outputs, 3, padding=1, bias=False)
        layers += [layer, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Three scales (Ronneberger et al., 2015); it predicts the noise, and takes it away."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.fine, self.middle = _pair(3, width), _pair(width, 2 * width)
        self.coarse = _pair(2 * width, 4 * width)
        self.to_middle = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.middle_again = _pair(4 * width, 2 * width)
        self.to_fine = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.fine_again = _pair(2 * width, width)
        self.noise = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        middle = self.middle(functional.max_pool2d(fine, 2))
        coarse = self.coarse(functional.max_pool2d(middle, 2))
        middle = self.middle_again(torch.cat([self.to_middle(coarse), middle], 1))
        fine = self.fine_again(torch.cat([self.to_fine(middle), fine], 1))
        return x - self.noise(fine)


def subject(cache: Path | None = None) -> Subject:
    """Return the network, judged by the PSNR in dB on photos that it was not trained on."""
    torch.manual_seed(0)
    scaled = [(photo - 127.5) / 127.5 for photo in photos()]
    known, new = scaled[::2], scaled[1::2]
    clean = torch.cat(crops(PATCHES, SIZE, known))
    model = trained("denoiser", UNet(), lambda each: _train(each, clean), cache)
    wanted = torch.cat(crops(HELD_OUT, SIZE, new, seed=1))
    chance = torch.Generator().manual_seed(2)
    return Subject(
        "unet_denoiser",
        model,
        [(_noisy(patch, chance),) for patch in clean[:CALIBRATION].split(1)],
        [(_noisy(patch, chance),) for patch in wanted.split(1)],
        (Metric("PSNR", lambda outputs: _psnr(outputs, wanted)),),
    )


def _noisy(clean: Tensor, chance: torch.Generator) -> Tensor:
    return clean + NOISE * torch.randn(clean.shape, generator=chance)


def _train(model: nn.Module, clean: Tensor) -> None:
    chance = torch.Generator().manual_seed(1)

    def losses() -> Iterator[Tensor]:
        while True:
            rows = clean[torch.randint(0, len(clean), (ROWS,), generator=chance)]
            yield functional.mse_loss(model(_noisy(rows, chance)), rows)

    descend(model, losses(), rate=3e-3, steps=STEPS)


def _psnr(outputs: Outputs, wanted: Tensor) -> float:
    """Return ``10 log10(peak**2 / mse)`` for values from -1 to 1, whose peak is 2."""
    return 10 * math.log10(4 / float(functional.mse_loss(torch.cat(list(outputs)), wanted)))
