"""What a benchmark of accuracy measures: a model, its data, and what its outputs are worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from attrs import evolve, frozen
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, ...]
Outputs = Sequence[Tensor]  # of each held-out batch


@frozen
class Metric:
    """A number that says what the outputs for the held-out inputs are worth."""

    name: str
    measure: Callable[[Outputs], float]
    higher_is_better: bool = True


@frozen
class Subject:
    """A float model in evaluation mode that returns one tensor, with its data and its metrics.

    ``calibration`` and ``held_out`` are batches of the model's arguments, all of the same shapes.
    They share no batch. The first of ``metrics`` is the one to judge by. ``is_transformer`` is a
    hint for tools that ask for the kind of model.
    """

    name: str
    model: nn.Module
    calibration: Sequence[Batch]
    held_out: Sequence[Batch]
    metrics: tuple[Metric, ...]
    is_transformer: bool = False

    @property
    def example(self) -> Batch:
        """The arguments to export the model with."""
        return self.calibration[0]

    def outputs(self, run: Callable[..., Tensor]) -> list[Tensor]:
        """Return what ``run`` computes for each held-out batch."""
        with torch.no_grad():
            return [run(*batch) for batch in self.held_out]

    def judged_by(self, *metrics: Metric) -> Subject:
        """Return the same with these metrics, which may be made from the float outputs."""
        return evolve(self, metrics=metrics)

    def float_outputs(self) -> list[Tensor]:
        """Return the outputs of the float model."""
        return self.outputs(self.model)


def sqnr(references: Outputs, outputs: Outputs) -> float:
    """Return ``10 log10(sum(ref**2) / sum((ref - out)**2))`` in dB over all outputs, pooled."""
    pairs = list(zip(references, outputs, strict=True))
    signal = sum(float(one.double().square().sum()) for one, _ in pairs)
    noise = sum(float((one.double() - other.double()).square().sum()) for one, other in pairs)
    return 10 * float(torch.log10(torch.tensor(signal, dtype=torch.float64) / noise))


def agreement(references: Outputs) -> Metric:
    """Return the share of rows, of shape (classes,), with the largest value at the same place."""
    wanted = torch.cat(list(references)).argmax(1)
    return accuracy(wanted, "top-1 agreement")


def accuracy(labels: Tensor, name: str = "accuracy") -> Metric:
    """Return the share of rows, of shape (classes,), with the largest value at their label."""
    return Metric(name, lambda outputs: _share(torch.cat(list(outputs)).argmax(1) == labels))


def cosines(references: Outputs) -> tuple[Metric, Metric]:
    """Return the mean and the least cosine of vectors, along the last axis, to the float ones."""
    wanted = torch.cat(list(references))

    def found(outputs: Outputs) -> Tensor:
        return functional.cosine_similarity(wanted, torch.cat(list(outputs)), dim=-1)

    return (
        Metric("cosine", lambda outputs: float(found(outputs).mean())),
        Metric("least cosine", lambda outputs: float(found(outputs).min())),
    )


def _share(right: Tensor) -> float:
    return float(right.double().mean())
