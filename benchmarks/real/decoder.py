"""A small Llama, trained here on the documentation strings of Python's own library.

It reads pieces of words, which byte-pair encoding finds in the same text. ``planted`` gives it
outliers where trained language models have them: a few channels of the residual stream that the
gains of all norms amplify, and that the weights downstream of the norms undo.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from real.docstrings import text
from real.subject import Metric, Outputs, Subject
from real.training import descend, trained

PIECES, LENGTH, WIDTH, HIDDEN, HEADS, SHARED, LAYERS = 1024, 128, 128, 384, 4, 2, 4
ROWS, STEPS, RATE = 16, 500, 4e-3
CALIBRATION, HELD_OUT = 32, 48  # sequences
FACTOR, CHANNELS = 30.0, [5, 70, 101]


class Decoder(nn.Module):
    """The logits of each next piece, for pieces of shape (rows, length)."""

    def __init__(self) -> None:
        super().__init__()
        self.model = _llama()

    def forward(self, pieces: Tensor) -> Tensor:
        return self.model(input_ids=pieces, use_cache=False, return_dict=False)[0]


def subject(cache: Path | None = None, planted: bool = False) -> Subject:
    """Return the model, judged by its perplexity on text from other modules."""
    read = text("**/*.py")
    tokenizer = _tokenizer(read)
    pieces = torch.tensor(tokenizer.encode(read).ids)
    cut = len(pieces) * 9 // 10
    torch.manual_seed(0)
    model = Decoder()
    trained("decoder", model, lambda each: _train(each, pieces[:cut]), cache)
    if planted:
        _plant(model)
    calibration, held_out = _rows(pieces[:cut], CALIBRATION), _rows(pieces[cut:], HELD_OUT)
    targets = held_out[:, 1:].flatten()
    return Subject(
        "planted_decoder" if planted else "decoder",
        model,
        [(row[:, :-1],) for row in calibration.split(1)],
        [(row[:, :-1],) for row in held_out.split(1)],
        (Metric("perplexity", lambda found: perplexity(found, targets), False),),
        is_transformer=True,
    )


def perplexity(outputs: Outputs, targets: Tensor) -> float:
    """Return the exponential of the mean negative log likelihood of the targets."""
    logits = torch.cat(list(outputs)).flatten(0, 1)
    return math.exp(functional.cross_entropy(logits, targets))


def _llama() -> Any:
    import transformers

    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=PIECES,
            hidden_size=WIDTH,
            intermediate_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=SHARED,
            max_position_embeddings=LENGTH,
            tie_word_embeddings=False,
            attn_implementation="sdpa",
        )
    )


def _tokenizer(read: str) -> Any:
    """Return a tokenizer whose pieces are the most frequent ones of a text; no byte is unknown."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(read.splitlines(keepends=True), PIECES, show_progress=False)
    return tokenizer


def _rows(pieces: Tensor, count: int) -> Tensor:
    """Return rows of ``LENGTH`` + 1 pieces, evenly spread over a text."""
    starts = torch.linspace(0, len(pieces) - LENGTH - 1, count).long()
    return pieces[starts[:, None] + torch.arange(LENGTH + 1)]


def _train(model: nn.Module, pieces: Tensor) -> None:
    def losses() -> Iterator[Tensor]:
        while True:
            starts = torch.randint(0, len(pieces) - LENGTH, (ROWS, 1))
            rows = pieces[starts + torch.arange(LENGTH + 1)]
            yield functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())

    descend(model, losses(), rate=RATE, steps=STEPS)


@torch.no_grad()
def _plant(model: Decoder) -> None:
    """Amplify channels in the gains of norms, and divide the weights that read them."""
    for layer in model.model.model.layers:
        attention, feed = layer.self_attn, layer.mlp
        _amplify(layer.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj)
        _amplify(layer.post_attention_layernorm, feed.gate_proj, feed.up_proj)


def _amplify(norm: nn.Module, *readers: nn.Linear) -> None:
    norm.weight[CHANNELS] *= FACTOR
    for reader in readers:
        reader.weight[:, CHANNELS] /= FACTOR
