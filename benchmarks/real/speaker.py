"""The speaker encoder of Resemblyzer, an LSTM with trained weights, on synthetic voices."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from real.packages import file_of
from real.subject import Subject, cosines

RATE, MELS = 16000, 40  # Hz, and bands
FRAMES = 40  # of 10 ms: a quarter of what the encoder expects, because each is a step in the graph
HOP, WINDOW = 160, 400  # samples
LOUDNESS = -30.0  # dB of full scale
CALIBRATION, HELD_OUT = 16, 24
SOUNDS = 8  # of a voice, each with three formants


class SpeakerEncoder(nn.Module):
    """Embeddings of length 1, for mel spectrograms of shape (rows, frames, 40)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        found = self.linear(hidden[-1]).relu()
        return found / found.norm(dim=1, keepdim=True)


def subject() -> Subject:
    """Return the encoder, judged by the cosines of its embeddings."""
    path = file_of("resemblyzer", "pretrained.pt", "Resemblyzer")
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    model = SpeakerEncoder().eval()
    model.load_state_dict({name: state[name] for name in model.state_dict()})
    batches = [(_mels(_voice(seed)),) for seed in range(CALIBRATION + HELD_OUT)]
    made = Subject("speaker", model, batches[:CALIBRATION], batches[CALIBRATION:], ())
    return made.judged_by(*cosines(made.float_outputs()))


def _voice(seed: int) -> Tensor:
    """Return sounds of a source of pulses and noise, each filtered by three resonances."""
    from scipy.signal import lfilter

    chance = np.random.default_rng(seed)
    length = FRAMES * HOP
    times = np.arange(length) / RATE
    pitch = chance.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * chance.uniform(1, 4) * times))
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0)
    voiced = pulses + 0.02 * chance.standard_normal(length)
    sounds = []
    for part in np.array_split(voiced, SOUNDS):
        sound = part if chance.random() > 0.2 else 0.2 * chance.standard_normal(len(part))
        for lowest, highest, width in ((250, 850, 80), (900, 2400, 120), (2400, 3300, 180)):
            radius = math.exp(-math.pi * width / RATE)
            angle = 2 * math.pi * chance.uniform(lowest, highest) / RATE
            poles = [1, -2 * radius * math.cos(angle), radius**2]
            sound = lfilter([1 - radius], poles, sound)
        sounds.append(sound * chance.uniform(0.2, 1))
    found = np.concatenate(sounds)
    found *= 10 ** (LOUDNESS / 20) / np.sqrt((found**2).mean())
    return torch.from_numpy(found).float()


def _mels(sound: Tensor) -> Tensor:
    """Return the power in bands of equal width in mel, of equal area, of shape (1, frames, 40)."""
    window = torch.hann_window(WINDOW)
    power = torch.stft(sound, WINDOW, HOP, window=window, return_complex=True).abs().square()
    edges = 700 * (10 ** (torch.linspace(0, _mel(RATE / 2), MELS + 2) / 2595) - 1)
    frequencies = torch.linspace(0, RATE / 2, WINDOW // 2 + 1)
    low, centre, high = (edges[at : at + MELS, None] for at in range(3))
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    bands = torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)
    return (bands @ power).T[None, :FRAMES].contiguous()


def _mel(frequency: float) -> float:
    return 2595 * math.log10(1 + frequency / 700)
