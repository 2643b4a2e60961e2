"""A small network on raw features of very different scales: breast cancer, of scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from real.subject import Batch, Subject, accuracy
from real.training import descend, trained

HELD_OUT, ROWS, STEPS = 143, 13, 200  # rows held out, rows of a batch


def subject(cache: Path | None = None) -> Subject:
    """Return a classifier that was trained on scaled features and reads raw ones.

    The scaling is folded into its first layer, so one scale has to fit inputs from 0.001 to 4000.
    """
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    torch.manual_seed(0)
    order = torch.randperm(len(data.target))
    features = torch.tensor(data.data, dtype=torch.float32)[order]
    labels = torch.tensor(data.target)[order]
    known = features[:-HELD_OUT], labels[:-HELD_OUT]
    network = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 32), nn.ReLU())
    network.append(nn.Linear(32, 2))
    model = trained("mlp", network, lambda each: _train(each, *known), cache)
    return Subject(
        "mlp",
        model,
        _batches(features[:-HELD_OUT]),
        _batches(features[-HELD_OUT:]),
        (accuracy(labels[-HELD_OUT:]),),
    )


def _batches(rows: Tensor) -> list[Batch]:
    """Return batches of the same size; rows that do not fill one are left out."""
    return [(rows[at : at + ROWS],) for at in range(0, len(rows) - ROWS + 1, ROWS)]


def _train(network: nn.Module, features: Tensor, labels: Tensor) -> None:
    scale, centre = features.std(0), features.mean(0)
    scaled = (features - centre) / scale

    def losses() -> Iterator[Tensor]:
        while True:
            yield functional.cross_entropy(network(scaled), labels)

    descend(network, losses(), rate=1e-2, steps=STEPS)
    first = network[0]
    with torch.no_grad():
        first.weight /= scale
        first.bias -= first.weight @ centre
