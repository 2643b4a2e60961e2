"""Noise of a tensor, as a whole and in its worst slice.

A tensor may be close to its reference as a whole while a part of it is lost: scores of 0.5 next to
boxes of 300, in one tensor with one scale, are all noise but do not affect the ratio of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from attrs import define, evolve, field, frozen
from torch import Tensor

NEGLIGIBLE = 1e-6  # differences that count as rounding, for any signal
CHANCE = 1e-3  # allowed probability that any slice of a tensor looks small by chance
OTHER = 0.1  # of the output's root mean square: slices above it are measured against the output
TRACE = 1e-4  # of the slices' typical root mean square: less variation carries no signal
FEW = 32  # values of a slice along the last axis, where neighbouring values may all be small


@frozen
class Slice:
    """One slice of a tensor, ``tensor.select(axis, index)``, and its SQNR in dB."""

    axis: int
    index: int
    sqnr: float


def signal_and_noise(reference: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Return the reference and the absolute differences from it, flat in double precision.

    Elements at which both are the same infinity, as in masks, are 0 in both results.
    """
    reference, output = reference.double().reshape(-1), output.double().reshape(-1)
    masked = reference.isinf() & (reference == output)
    difference = torch.where(masked, 0.0, reference - output)
    return torch.where(masked, 0.0, reference), difference.abs()


def decibels(signal: float, noise: float) -> float:
    """Return ``10 log10(signal / noise)``: inf for no noise, -inf for noise that is not finite."""
    if noise == 0:
        return math.inf
    if not math.isfinite(noise):
        return -math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


@define
class Tally:
    """The signal and noise of a tensor, summed over samples one at a time.

    ``largest`` and ``total`` are of the absolute differences of ``elements`` elements.
    """

    signal: float = 0.0
    noise: float = 0.0
    largest: float = 0.0
    total: float = 0.0
    elements: int = 0
    _slices: dict[int, _Sums | None] = field(factory=dict)

    def add(self, reference: Tensor, output: Tensor) -> None:
        """Add a sample of the tensor and of its reference, which have the same shape."""
        if not reference.numel():
            return
        values, noise = signal_and_noise(reference, output)
        self.signal += float(values.square().sum())
        self.noise += float(noise.square().sum())
        self.largest = float(noise.max().clamp(min=self.largest))  # NaN stays NaN
        self.total += float(noise.sum())
        self.elements += noise.numel()
        for axis in _axes(reference):
            sums = _Sums.of(values.reshape(reference.shape), noise.reshape(reference.shape), axis)
            known = self._slices.setdefault(axis, sums)
            if known is not sums:
                self._slices[axis] = known.plus(sums) if known else None

    @property
    def sqnr(self) -> float:
        """The signal-to-quantization-noise ratio of the whole tensor in dB."""
        return decibels(self.signal, self.noise)

    @property
    def worst_slice(self) -> Slice | None:
        """The slice with the lowest SQNR along the axes that may hold channels.

        These are axis 1 (of images and rows) and the last axis (of sequences, and of channels-last
        images). It is never above that of the whole tensor: where no slice stands out, it equals
        that. None for a tensor of fewer than two dimensions, for axes of size 1, and for axes whose
        size changes from sample to sample.
        """
        found = [sums.worst(axis) for axis, sums in self._slices.items() if sums]
        worst = min(found, key=lambda each: each.sqnr, default=None)
        return worst and evolve(worst, sqnr=min(worst.sqnr, self.sqnr))


def _axes(tensor: Tensor) -> Iterator[int]:
    last = tensor.dim() - 1
    for axis in sorted({1, last}) if last >= 1 else ():
        if tensor.shape[axis] > 1:
            yield axis


@frozen(eq=False)
class _Sums:
    """Sums for each slice: squares, squared noise, values, and the number of nonzero values."""

    signal: Tensor
    noise: Tensor
    values: Tensor
    active: Tensor
    elements: int  # in each slice
    few: int  # slices with fewer nonzero values are not measured by themselves

    @classmethod
    def of(cls, values: Tensor, noise: Tensor, axis: int) -> _Sums:
        rows, noise = values.movedim(axis, 0).flatten(1), noise.movedim(axis, 0).flatten(1)
        signal, active = rows.square().sum(1), rows.count_nonzero(1)
        few = FEW if axis > 1 else 0
        return cls(signal, noise.square().sum(1), rows.sum(1), active, rows.shape[1], few)

    def plus(self, other: _Sums) -> _Sums | None:
        """Return the sums over both; None if the numbers of slices differ."""
        if len(self.signal) != len(other.signal):
            return None
        return _Sums(
            self.signal + other.signal,
            self.noise + other.noise,
            self.values + other.values,
            self.active + other.active,
            self.elements + other.elements,
            self.few,
        )

    def worst(self, axis: int) -> Slice:
        power, noise = self.signal / self.elements, self.noise / self.elements
        other = self._is_of_another_scale(power)
        signal = torch.where(other, power, power.clamp(min=power.mean()))
        ratios = 10 * torch.log10(signal / torch.where(other, noise, self._beyond_chance(noise)))
        ratios = ratios.nan_to_num(-math.inf, math.inf, -math.inf)
        ratios = torch.where(noise <= NEGLIGIBLE**2, math.inf, ratios)
        index = int(ratios.argmin())
        return Slice(axis, index, float(ratios[index]))

    def _is_of_another_scale(self, power: Tensor) -> Tensor:
        """Whether the noise of each slice is measured against the slice's own, small signal.

        The root mean square of such a slice is below ``OTHER`` of the output's, and not by chance:
        ``n`` values are all below a share ``r`` of their scale with a probability of about
        ``r**n``. The slice varies by more than ``TRACE``, unlike a channel that is constant or that
        a ReLU has cut off. The noise of all other slices is measured against the output's signal,
        so that a class whose few logits happen to be near zero raises no false alarm.
        """
        spread = (power - (self.values / self.elements).square()).clamp(min=0).sqrt()
        size = power.sqrt()
        typical = size[size > 0].median() if size.any() else size.new_zeros(())
        chance = (CHANCE / len(power)) ** (1 / self._counted)
        small = size < power.mean().sqrt() * chance.clamp(max=OTHER)
        return small & (spread > TRACE * typical) & (self.active >= self.few)

    def _beyond_chance(self, noise: Tensor) -> Tensor:
        """Return the noise of each slice, or the median of all if it exceeds that by chance.

        The mean square of ``n`` normal values is above ``1 + 2 sqrt(t / n) + 2 t / n`` of its
        expectation with a probability of at most ``exp(-t)`` (Laurent and Massart, Adaptive
        estimation of a quadratic functional, 2000, lemma 1).
        """
        t = math.log(len(noise) / CHANCE)
        likely = noise.median() * (1 + 2 * (t / self._counted).sqrt() + 2 * t / self._counted)
        return torch.where(noise <= likely, noise.clamp(max=noise.median()), noise)

    @property
    def _counted(self) -> Tensor:
        """The number of nonzero values of each slice, at least 1 to divide by."""
        return self.active.clamp(min=1).double()
