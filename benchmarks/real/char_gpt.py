"""A GPT of characters, trained here on the documentation strings of Python's own library."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from real.docstrings import text
from real.subject import Metric, Outputs, Subject
from real.training import descend, trained

LENGTH, WIDTH, HEADS, LAYERS = 64, 128, 4, 4
ROWS, STEPS = 32, 450
CALIBRATION, HELD_OUT = 32, 64  # sequences


class Layer(nn.Module):
    """A block of GPT-2, norms first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(self.first(x)).unflatten(2, (3, HEADS, WIDTH // HEADS))
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind()
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.wide(self.second(x))))


class CharGPT(nn.Module):
    """The logits of each next character, for characters of shape (rows, ``LENGTH``)."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(vocabulary, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocabulary)

    def forward(self, characters: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.characters(characters) + self.places)))


def subject(cache: Path | None = None) -> Subject:
    """Return the model, judged by its perplexity on text from another part of the library."""
    codes = torch.tensor([ord(each) - 31 for each in text()])
    codes = codes.clamp(0, 96)  # a line break, and printable ASCII
    cut = len(codes) * 9 // 10
    torch.manual_seed(0)
    model = CharGPT(97)
    trained("char_gpt", model, lambda each: _train(each, codes[:cut]), cache)
    calibration = _rows(codes[:cut], CALIBRATION)[:, :-1]
    held_out = _rows(codes[cut:], HELD_OUT)
    targets = held_out[:, 1:].flatten()
    return Subject(
        "char_gpt",
        model,
        [(row,) for row in calibration.split(1)],
        [(row,) for row in held_out[:, :-1].split(1)],
        (Metric("perplexity", lambda found: _perplexity(found, targets), False),),
        is_transformer=True,
    )


def _rows(codes: Tensor, count: int) -> Tensor:
    """Return rows of ``LENGTH`` + 1 characters, evenly spread over a text."""
    starts = torch.linspace(0, len(codes) - LENGTH - 1, count).long()
    return codes[starts[:, None] + torch.arange(LENGTH + 1)]


def _train(model: nn.Module, codes: Tensor) -> None:
    def losses() -> Iterator[Tensor]:
        while True:
            starts = torch.randint(0, len(codes) - LENGTH, (ROWS, 1))
            rows = codes[starts + torch.arange(LENGTH + 1)]
            yield functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())

    descend(model, losses(), rate=3e-3, steps=STEPS)


def _perplexity(outputs: Outputs, targets: Tensor) -> float:
    logits = torch.cat(list(outputs)).flatten(0, 1)
    return math.exp(functional.cross_entropy(logits, targets))
