"""Transformers with random weights and planted outlier channels, next to the same without them.

What an algorithm recovers is the part of the SQNR that the outliers cost: the difference between a
planted model and the plain one. The outliers are where trained transformers have them:

- ``planted_vit``: in the outputs of norms. The gain of a norm is ``FACTOR`` times as large in a few
  channels, and the weights that read them are divided by it: the float outputs stay the same.
- ``planted_bert``: in the residual stream, as in MiniLM. One channel of a feed-forward block's last
  layer has ``FACTOR`` as its bias and larger weights, and the gain of the norm that follows brings
  all channels back to scale. It has one sign, as in trained models: where such a channel passed
  through zero, the norm would amplify the others in single tokens, and the float model would
  amplify any noise, by whatever is rounded.
- ``crossing_bert``: the same without the bias, and with weights ``FACTOR`` times as large, so that
  the channel does pass through zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from real.photos import crops, photos
from real.subject import Batch, Subject, accuracy, cosines

FACTOR, CHANNELS = 100.0, [5, 70, 133]
WIDTH, VIT_LAYERS, BERT_LAYERS = 192, 6, 4
SIZE, PATCH = 96, 16  # pixels
PROBED, CALIBRATION, HELD_OUT = 440, 32, 110  # crops, of eleven photos in turns
RIDGE = 1e-2  # of the mean square of the features
TOKENS, VOCABULARY = 32, 1000


class First(nn.Module):
    """A model of transformers that returns the first of its outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs, return_dict=False)[0]


def vit(planted: bool = False) -> Subject:
    """Return a classifier that tells which photo a crop is of, by a ridge regression."""
    import transformers

    torch.manual_seed(0)
    scaled = [(photo - 127.5) / 127.5 for photo in photos()]
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=WIDTH,
            num_attention_heads=3,
            num_hidden_layers=VIT_LAYERS,
            intermediate_size=4 * WIDTH,
            image_size=SIZE,
            patch_size=PATCH,
            initializer_range=WIDTH**-0.5,
            num_labels=len(scaled),
        )
    ).eval()
    found = crops(PROBED + HELD_OUT, SIZE, scaled)
    labels = torch.arange(len(found)) % len(scaled)
    _probe(model, found[:PROBED], labels[:PROBED])
    if planted:
        for layer in model.vit.layers:
            attention = layer.attention
            _plant(layer.layernorm_before, (attention.q_proj, attention.k_proj, attention.v_proj))
            _plant(layer.layernorm_after, (layer.mlp.fc1,))
    batches = [(crop,) for crop in found]
    return Subject(
        "planted_vit" if planted else "vit",
        First(model).eval(),
        batches[:CALIBRATION],
        batches[PROBED:],
        (accuracy(labels[PROBED:]),),
        is_transformer=True,
    )


@torch.no_grad()
def _probe(model: nn.Module, inputs: Iterable[Tensor], labels: Tensor) -> None:
    """Solve for the weights of the last layer: ``(F'F + r I) W = F'Y``, centred."""
    last: nn.Linear = model.classifier
    found = torch.cat([model.vit(each).last_hidden_state[:, 0] for each in inputs]).double()
    wanted = functional.one_hot(labels).double()
    centre, share = found.mean(0), wanted.mean(0)
    found = found - centre
    square = found.T @ found
    square += RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=torch.float64)
    weight = torch.linalg.solve(square, found.T @ (wanted - share)).T
    last.weight.copy_(weight)
    last.bias.copy_(share - weight @ centre)


@torch.no_grad()
def _plant(norm: nn.LayerNorm, readers: Iterable[nn.Linear]) -> None:
    """Multiply outputs of a norm, and divide the weights that read them."""
    norm.weight[CHANNELS] *= FACTOR
    norm.bias[CHANNELS] *= FACTOR
    for reader in readers:
        reader.weight[:, CHANNELS] /= FACTOR


def bert(planted: bool = False, crossing: bool = False) -> Subject:
    """Return an encoder of random tokens, judged by the hidden states of all of them.

    ``crossing`` plants a channel that passes through zero.
    """
    import transformers

    torch.manual_seed(0)
    model = transformers.BertModel(
        transformers.BertConfig(
            hidden_size=WIDTH,
            num_attention_heads=3,
            num_hidden_layers=BERT_LAYERS,
            intermediate_size=4 * WIDTH,
            vocab_size=VOCABULARY,
            max_position_embeddings=TOKENS,
            initializer_range=WIDTH**-0.5,
        ),
        add_pooling_layer=False,
    ).eval()
    for layer in model.encoder.layer if planted or crossing else ():
        offset, gain = (0.0, FACTOR) if crossing else (FACTOR, FACTOR / 5)
        _plant_residual(layer.output.dense, layer.output.LayerNorm, CHANNELS[1], offset, gain)
    batches: list[Batch] = [(torch.randint(0, VOCABULARY, (1, TOKENS)),) for _ in range(64)]
    name = "crossing_bert" if crossing else "planted_bert" if planted else "bert"
    made = Subject(name, First(model).eval(), batches[:32], batches[32:], (), is_transformer=True)
    return made.judged_by(*cosines(made.float_outputs()))


@torch.no_grad()
def _plant_residual(
    dense: nn.Linear, norm: nn.LayerNorm, channel: int, offset: float, gain: float
) -> None:
    """Enlarge a channel ahead of a norm, and undo in its gain what this does to the variance."""
    dense.weight[channel] *= gain
    dense.bias[channel] = dense.bias[channel] * gain + offset
    norm.weight *= math.sqrt((WIDTH - 1 + FACTOR**2) / WIDTH)
    norm.weight[channel] /= FACTOR
