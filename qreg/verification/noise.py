"""How strong the noise of a tensor is, as a whole and in its worst slice.

A tensor may be near its reference as a whole and have a part that is lost: scores of 0.5 beside
boxes of 300, in one tensor with one scale, are all noise and do not show in the ratio of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from attrs import define, field, frozen
from torch import Tensor

NEGLIGIBLE = 1e-6  # differences that are rounding, whatever the signal is
CHANCE = 1e-3  # how likely it may be that any slice of a tensor looks small by chance
OTHER = 0.1  # of the output's root mean square: what is above is measured against the output's
TRACE = 1e-4  # of the slices' typical root mean square: what varies by less carries nothing
FEW = 32  # values of a slice along the last axis, whose neighbours may be small together


@frozen
class Slice:
    """One slice of a tensor, ``tensor.select(axis, index)``, and its SQNR in dB."""

    axis: int
    index: int
    sqnr: float


def signal_and_noise(reference: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """The values of a reference, and the absolute differences to it, flat in double precision.

    Where both are the same infinity, as in masks, there is neither.
    """
    reference, output = reference.double().reshape(-1), output.double().reshape(-1)
    masked = reference.isinf() & (reference == output)
    difference = torch.where(masked, 0.0, reference - output)
    return torch.where(masked, 0.0, reference), difference.abs()


def decibels(signal: float, noise: float) -> float:
    """``10 log10(signal / noise)``; infinite without noise, and if it is no number minus that."""
    if noise == 0:
        return math.inf
    if not math.isfinite(noise):
        return -math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


@define
class Tally:
    """The signal and noise of a tensor, added up over samples as they come."""

    signal: float = 0.0
    noise: float = 0.0
    largest: float = 0.0
    _slices: dict[int, _Sums | None] = field(factory=dict)

    def add(self, reference: Tensor, output: Tensor) -> None:
        """Counts a sample of the tensor and of its reference, which have the same shape."""
        if not reference.numel():
            return
        values, noise = signal_and_noise(reference, output)
        self.signal += float(values.square().sum())
        self.noise += float(noise.square().sum())
        self.largest = max(self.largest, float(noise.max()))
        for axis in _axes(reference):
            sums = _Sums.of(values.reshape(reference.shape), noise.reshape(reference.shape), axis)
            known = self._slices.setdefault(axis, sums)
            if known is not sums:
                self._slices[axis] = known.plus(sums) if known else None

    @property
    def sqnr(self) -> float:
        """The signal-to-quantization-noise ratio of the whole in dB."""
        return decibels(self.signal, self.noise)

    @property
    def worst_slice(self) -> Slice | None:
        """The slice with the least SQNR along the axes that may hold channels.

        These are axis 1 (of images and of rows) and the last (of sequences, and of images with
        their channels last). None for a tensor of fewer than two dimensions, for axes of size 1,
        and for those whose size changes from sample to sample.
        """
        found = [sums.worst(axis) for axis, sums in self._slices.items() if sums]
        return min(found, key=lambda each: each.sqnr, default=None)


def worst_slice(references: Sequence[Tensor], outputs: Sequence[Tensor]) -> Slice | None:
    """The worst slice of an output over all samples, as in :class:`Tally`."""
    tally = Tally()
    for reference, output in zip(references, outputs, strict=True):
        tally.add(reference, output)
    return tally.worst_slice


def _axes(tensor: Tensor) -> Iterator[int]:
    last = tensor.dim() - 1
    for axis in sorted({1, last}) if last >= 1 else ():
        if tensor.shape[axis] > 1:
            yield axis


@frozen(eq=False)
class _Sums:
    """Of each slice: of its squares, its squared noise, its values, and how many are not zero."""

    signal: Tensor
    noise: Tensor
    values: Tensor
    active: Tensor
    elements: int  # in each slice
    few: int  # values with which a slice is not measured by itself

    @classmethod
    def of(cls, values: Tensor, noise: Tensor, axis: int) -> _Sums:
        rows, noise = values.movedim(axis, 0).flatten(1), noise.movedim(axis, 0).flatten(1)
        signal, active = rows.square().sum(1), rows.count_nonzero(1)
        few = FEW if axis > 1 else 0
        return cls(signal, noise.square().sum(1), rows.sum(1), active, rows.shape[1], few)

    def plus(self, other: _Sums) -> _Sums | None:
        """The sums over both; None if there are not as many slices."""
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
        """Whether the noise of a slice is held against the slice's own signal, which is small.

        Its root mean square is below ``OTHER`` of the output's, and not by chance: ``n`` values are
        all below a share ``r`` of their scale with a probability of about ``r**n``. It has more
        than a trace of variation, unlike a channel that a ReLU has cut off or one that is constant.
        The noise of other slices is held against the output's signal, so that a class whose few
        logits happen to be near zero is no false alarm.
        """
        spread = (power - (self.values / self.elements).square()).clamp(min=0).sqrt()
        size = power.sqrt()
        typical = size[size > 0].median() if size.any() else size.new_zeros(())
        chance = (CHANCE / len(power)) ** (1 / self._counted)
        small = size < power.mean().sqrt() * chance.clamp(max=OTHER)
        return small & (spread > TRACE * typical) & (self.active >= self.few)

    def _beyond_chance(self, noise: Tensor) -> Tensor:
        """The noise of each slice, or the median of all where it is above that by chance.

        The mean square of ``n`` normal values is above ``1 + 2 sqrt(t / n) + 2 t / n`` of its
        expectation with a probability of at most ``exp(-t)`` (Laurent and Massart, Adaptive
        estimation of a quadratic functional, 2000, lemma 1).
        """
        t = math.log(len(noise) / CHANCE)
        likely = noise.median() * (1 + 2 * (t / self._counted).sqrt() + 2 * t / self._counted)
        return torch.where(noise <= likely, noise.clamp(max=noise.median()), noise)

    @property
    def _counted(self) -> Tensor:
        """How many values a slice has that are not zero, as a number to divide by."""
        return self.active.clamp(min=1).double()
