"""Trains a small CNN on scikit-learn's digits, quantizes it, and runs both programs.

The float and the int8 program run in the runtime of the backend on the images that neither training
nor calibration saw. Run it with ``python examples/digits/digits.py [--backend NAME] [--json]``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

import qreg
from qreg import Runner
from qreg.report.text import print_report
from qreg.utils.tables import print_table


class DigitsNet(nn.Module):
    """8 x 8 grey images to 10 classes: three convolutions, one with a skip, and a linear layer."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU()
        )
        self.classifier = nn.Linear(2 * width, 10)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        features = self.pool(features + self.block(features))
        pooled = functional.adaptive_avg_pool2d(self.head(features), 1)
        return self.classifier(pooled.flatten(1))


def digits(held_out: float = 0.25) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images, held-out images (n, 1, 8, 8) in [0, 1], and the labels of both."""
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images, labels, test_size=held_out, random_state=0, stratify=labels)
    train, test = (torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8) / 16 for x in split[:2])
    return train, test, torch.tensor(split[2]), torch.tensor(split[3])


def train_model(images: Tensor, labels: Tensor, epochs: int = 12) -> DigitsNet:
    """Trains with Adam on a one-cycle schedule, from a fixed seed."""
    torch.manual_seed(0)
    model, batch = DigitsNet(), 64
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * (len(images) // batch + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(batch):
            loss = functional.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def measure(
    load: Callable[[bytes], Runner], program: bytes, images: Tensor, labels: Tensor
) -> dict[str, float]:
    """Accuracy in percent, size in bytes and median latency in microseconds of a program."""
    run = load(program)
    hits, seconds = 0, []
    for image, label in zip(images, labels, strict=True):
        started = time.perf_counter()
        (scores,) = run([image.unsqueeze(0)])
        seconds.append(time.perf_counter() - started)
        hits += int(scores.argmax() == label)
    return {
        "accuracy": 100 * hits / len(labels),
        "bytes": len(program),
        "microseconds": 1e6 * statistics.median(seconds),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="xnnpack")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    train, test, train_labels, test_labels = digits()
    model = train_model(train, train_labels)
    example = (train[:1],)
    calibration = [(image.unsqueeze(0),) for image in train[:128]]
    result = qreg.quantize(model, example, backend=given.backend, calibration=calibration)
    in_float = qreg.lower(model, example, backend=given.backend)
    programs = {"float": in_float.program, "int8": result.program}
    load = result.target.loader
    measured = {name: measure(load, each, test, test_labels) for name, each in programs.items()}
    if given.json:
        decisions = [(decision.operator, decision.status) for decision in result.decisions]
        print(json.dumps({"images": len(test), "programs": measured, "decisions": decisions}))
        return
    print(f"{len(test)} held-out images, one at a time, in {result.target.backend.runtime}:")
    print_table(
        [
            {
                "program": name,
                "accuracy": f"{row['accuracy']:.2f} %",
                "size": f"{row['bytes']:,.0f} bytes",
                "latency (median)": f"{row['microseconds']:.0f} us",
            }
            for name, row in measured.items()
        ]
    )
    print()
    print_report(result.report, operators=False)


if __name__ == "__main__":
    main()
