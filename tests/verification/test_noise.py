"""Pins the worst slice of a tensor: which parts are seen to be lost, and which are not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from qreg.verification.metrics import compare_all
from qreg.verification.noise import Slice, Tally
from qreg.verification.verify import Verification


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rounded(tensor: Tensor, step: float) -> Tensor:
    """A tensor on one scale, as a program with one scale for the whole gives it."""
    return (tensor / step).round() * step


def sqnr(reference: Tensor, output: Tensor) -> float:
    signal, noise = reference.double().square().sum(), (reference - output).double().square().sum()
    return 10 * math.log10(signal / noise)


def worst_slice(references: Sequence[Tensor], outputs: Sequence[Tensor]) -> Slice | None:
    tally = Tally()
    for reference, output in zip(references, outputs, strict=True):
        tally.add(reference, output)
    return tally.worst_slice


def found(reference: Tensor, output: Tensor) -> Slice:
    part = worst_slice([reference], [output])
    assert part is not None
    return part


BOXES_AND_SCORES = [
    ("images", (1, 8, 12, 12), 1, slice(4, None)),
    ("rows", (16, 8), 1, slice(4, None)),
    ("anchors, last axis", (1, 50, 5), 2, slice(4, None)),
    ("anchors, axis 1", (1, 5, 50), 1, slice(4, None)),
    ("grid of anchors", (1, 3, 6, 6, 9), 4, slice(4, None)),
    ("few scores of many channels", (2, 65, 9, 9), 1, slice(64, None)),
]


@pytest.mark.parametrize(
    ("shape", "axis", "scores"),
    [pytest.param(*case, id=name) for name, *case in BOXES_AND_SCORES],
)
def test_scores_that_share_the_scale_of_boxes_are_seen(
    shape: tuple[int, ...], axis: int, scores: slice
) -> None:
    values = 300 * drawn(*shape)
    part = (slice(None),) * axis + (scores,)
    values[part] = (values[part] / 300).sigmoid()
    output = rounded(values, 1200 / 128)
    worst = found(values, output)
    assert sqnr(values, output) > 35
    assert worst.axis == axis
    assert worst.index in range(shape[axis])[scores]
    lost = values.select(axis, worst.index)
    assert worst.sqnr == pytest.approx(sqnr(lost, output.select(axis, worst.index)))
    assert worst.sqnr < 5


def test_a_row_for_each_sample_is_enough_to_see_a_lost_score() -> None:
    rows = [
        torch.cat([300 * drawn(1, 4, seed=n), drawn(1, 1, seed=n).sigmoid()], 1)
        for n in (1, 2, 3, 4)
    ]
    worst = worst_slice(rows, [rounded(each, 8) for each in rows])
    assert worst == Slice(axis=1, index=4, sqnr=0.0)


def test_one_broken_channel_of_the_usual_scale_is_seen() -> None:
    values = drawn(2, 64, 8, 8)
    output = rounded(values, 1 / 64)
    output[:, 17] = -values[:, 17]
    assert sqnr(values, output) > 10
    worst = found(values, output)
    assert (worst.axis, worst.index) == (1, 17)
    assert worst.sqnr == pytest.approx(-6, abs=1)  # noise of twice the signal


def with_channel(channel: Tensor | float) -> Tensor:
    values = drawn(2, 16, 8, 8)
    values[:, 3] = channel
    return values


@pytest.mark.parametrize(
    "values",
    [
        with_channel(0.0),
        with_channel(0.004),
        with_channel(1e-6 * drawn(2, 8, 8, seed=1)),
        with_channel((drawn(2, 8, 8, seed=2) - 2.5).relu()),
        drawn(2, 16, 8, 8).relu(),
        drawn(1, 10),
        drawn(4, 1000),
        drawn(4, 1000) * (1 + drawn(1000, seed=3).abs()),
        drawn(1, 64, 384),
        drawn(1, 1, 4000),
        drawn(1, 3, 32, 32).sigmoid(),
    ],
    ids=[
        "a channel that is zero",
        "a channel that is constant",
        "a channel with a trace of signal",
        "a channel that a ReLU cuts off nearly always",
        "relu",
        "one row of logits",
        "rows of many classes",
        "classes of several scales",
        "a sequence",
        "a waveform",
        "an image",
    ],
)
def test_a_tensor_on_a_fair_scale_has_no_lost_part(values: Tensor) -> None:
    noisy = rounded(values + 0.02 * drawn(*values.shape, seed=9) * values.bool(), 1 / 64)
    assert sqnr(values, noisy) > 25
    assert found(values, noisy).sqnr > 12


def test_noise_in_a_channel_without_signal_is_held_against_the_output() -> None:
    values = with_channel(0.0)
    output = values.clone()
    output[:, 3] = 0.5 * drawn(2, 8, 8, seed=4)
    worst = found(values, output)
    power = values.double().square().mean() / output[:, 3].double().square().mean()
    assert (worst.axis, worst.index) == (1, 3)
    assert worst.sqnr == pytest.approx(10 * math.log10(power))


def test_samples_are_added_up() -> None:
    values, output = drawn(4, 6, 5), rounded(drawn(4, 6, 5), 0.25)
    together, apart = Tally(), Tally()
    together.add(values, output)
    for one, other in zip(values.split(1), output.split(1), strict=True):
        apart.add(one, other)
    assert apart.sqnr == pytest.approx(together.sqnr) == pytest.approx(sqnr(values, output))
    assert apart.worst_slice == Slice(
        together.worst_slice.axis,
        together.worst_slice.index,
        pytest.approx(together.worst_slice.sqnr),
    )


def test_an_axis_whose_size_changes_has_no_slices() -> None:
    sizes = [torch.Size((1, length, 6)) for length in (5, 7)]
    values = [drawn(*size) for size in sizes]
    worst = worst_slice(values, [rounded(each, 0.1) for each in values])
    assert worst is not None
    assert worst.axis == 2


@pytest.mark.parametrize("shape", [(), (5,), (5, 1), (0, 4)], ids=str)
def test_what_has_no_channels_has_no_worst_slice(shape: tuple[int, ...]) -> None:
    assert worst_slice([torch.ones(shape)], [torch.zeros(shape)]) is None


def test_equal_tensors_have_no_noise_in_any_slice() -> None:
    assert found(drawn(2, 3), drawn(2, 3)).sqnr == math.inf
    mask = torch.tensor([[0.0, -math.inf], [1.0, -math.inf]])
    assert found(mask, mask.clone()).sqnr == math.inf


def test_what_is_no_number_is_all_noise() -> None:
    broken = drawn(2, 3)
    broken[0, 1] = math.inf
    assert found(drawn(2, 3), broken) == Slice(1, 1, -math.inf)


def judged(reference: Tensor, output: Tensor, **options: float) -> Verification:
    return Verification("", 1, compare_all([[output]], [[reference]]), **options)


def test_the_verdict_is_poor_for_a_far_output_and_for_a_lost_slice() -> None:
    near = drawn(16, 4)
    assert judged(near, rounded(near, 0.01)).verdict == "good"
    assert judged(near, rounded(near, 0.01), min_sqnr=70).poor == [0]
    far = judged(near, -near)
    assert (far.verdict, far.poor, far.far) == ("poor", [0], [0])
    part = torch.cat([300 * drawn(64, 4), drawn(64, 4, seed=1).sigmoid()], 1)
    lost = judged(part, rounded(part, 8))
    assert (lost.verdict, lost.poor, lost.far) == ("poor", [0], [])
    assert lost.worst_sqnr == lost.to_float[0].worst_slice.sqnr < 5


def test_the_verdict_passes_over_integers_and_rounding() -> None:
    classes = torch.tensor([[1, 2], [3, 4]])
    assert judged(classes, classes + 5).good
    tiny = judged(torch.full((2, 2), 1e-9), torch.full((2, 2), 2e-9))
    assert tiny.good
    assert tiny.to_float[0].sqnr == pytest.approx(0.0)
    assert tiny.worst_sqnr == math.inf
    assert judged(torch.zeros(2, 2), torch.full((2, 2), 1e-9)).worst_sqnr == math.inf
    assert judged(torch.zeros(2, 2), torch.full((2, 2), math.nan)).worst_sqnr == -math.inf


@pytest.mark.parametrize("shape", [(4, 1000), (32, 1000), (4, 64), (1, 64, 384)], ids=str)
def test_even_noise_just_above_the_floor_has_no_slice_below_it(shape: tuple[int, ...]) -> None:
    values = drawn(*shape)
    noisy = values + 10 ** (-11.5 / 20) * drawn(*shape, seed=1)
    assert sqnr(values, noisy) < 12
    assert judged(values, noisy).good


def test_the_worst_slice_is_never_closer_than_the_whole() -> None:
    values = drawn(8, 4)
    output = rounded(values, 0.02)
    slices = [sqnr(values[:, each], output[:, each]) for each in range(4)]
    assert min(slices) < found(values, output).sqnr == pytest.approx(sqnr(values, output))


@pytest.mark.parametrize("columns", [1, 2])
def test_a_bad_column_of_a_few_rows_is_not_taken_for_chance(columns: int) -> None:
    values = drawn(4, 24)
    output = rounded(values, 0.02)
    output[:, :columns] = 0
    assert sqnr(values, output) > 11
    assert not judged(values, output).good
