"""qreg's observers give torchao's own parameters, bit for bit, from the same values."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchao.quantization.pt2e import HistogramObserver as Torchao
from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver

from qreg.errors import CalibrationError
from qreg.observers.binning import CHUNK, counted
from qreg.observers.observers import (
    ConstantMinMaxObserver,
    ConstantPerChannelMinMaxObserver,
    HistogramObserver,
)
from qreg.observers.range_search import errors, narrowing_ranges

AFFINE = {"dtype": torch.int8, "quant_min": -128, "quant_max": 127, "eps": 2**-12}

DISTRIBUTIONS: dict[str, Callable[[int], Tensor]] = {
    "normal": torch.randn,
    "uniform": torch.rand,
    "long tails": lambda n: torch.distributions.StudentT(1.5).sample((n,)),
    "two humps": lambda n: torch.cat([torch.randn(n) - 5, torch.randn(n) * 0.3 + 3]),
    "after relu": lambda n: torch.randn(n).relu(),
    "after relu6": lambda n: (torch.randn(n) * 4).clamp(0, 6),
    "negative": lambda n: -torch.rand(n) - 3,
    "tiny": lambda n: torch.randn(n) * 1e-8,
    "huge": lambda n: torch.randn(n) * 1e8,
    "mostly zero": lambda n: torch.cat([torch.zeros(20 * n), torch.randn(n)]),
    "an outlier": lambda n: torch.cat([torch.randn(n), torch.tensor([1000.0])]),
    "constant": lambda n: torch.full((n,), 3.0),
    "one value": lambda n: torch.tensor([2.5]),
    "zero": lambda n: torch.zeros(n),
}


def observed(make: Callable[..., torch.nn.Module], batches: list[Tensor], **more: object) -> Tensor:
    observer = make(**{**AFFINE, **more})
    for batch in batches:
        observer(batch)
    return observer


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.calculate_qparams(), other.calculate_qparams(), strict=True)
    return all(torch.equal(ours, theirs) and ours.dtype == theirs.dtype for ours, theirs in pairs)


@pytest.mark.parametrize("qscheme", [torch.per_tensor_affine, torch.per_tensor_symmetric])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_parameters_are_torchaos_also_when_the_range_widens(
    name: str, qscheme: torch.qscheme
) -> None:
    torch.manual_seed(0)
    batches = [DISTRIBUTIONS[name](6000) * (1 + number / 2) for number in range(3)]
    ours = observed(HistogramObserver, batches, qscheme=qscheme)
    theirs = observed(Torchao, batches, qscheme=qscheme)
    assert same(ours, theirs)


@pytest.mark.parametrize("name", ["normal", "long tails", "after relu6", "mostly zero"])
def test_the_search_meets_the_ranges_and_errors_that_torchaos_meets(name: str) -> None:
    torch.manual_seed(0)
    observer = observed(Torchao, [DISTRIBUTIONS[name](50000)])
    met: list[tuple[int, int, float]] = []
    measure = observer._compute_quantization_error

    def spy(start: int, end: int) -> float:
        met.append((start, end, measure(start, end)))
        return met[-1][2]

    observer._compute_quantization_error = spy
    observer.calculate_qparams()
    ranges = [(start, end) for start, end, _ in met]
    assert len(ranges) > 1
    found = narrowing_ranges(observer.histogram)
    assert [next(found) for _ in ranges] == ranges
    width = (observer.max_val.item() - observer.min_val.item()) / observer.bins
    assert errors(observer.histogram, width, ranges, 256) == [error for *_, error in met]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40), min_size=1, max_size=4
    ),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([64, 2048]),
)
def test_parameters_are_torchaos_for_any_values(
    values: list[list[float]], dtype: torch.dtype, bins: int
) -> None:
    batches = [torch.tensor(each, dtype=dtype) for each in values]
    assert same(
        observed(HistogramObserver, batches, bins=bins), observed(Torchao, batches, bins=bins)
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=16, max_size=256).filter(any))
def test_parameters_are_torchaos_for_any_histogram(counts: list[int]) -> None:
    """Sparse and ragged histograms take the search through thousands of ranges."""
    pair = HistogramObserver(bins=len(counts), **AFFINE), Torchao(bins=len(counts), **AFFINE)
    for observer in pair:
        observer.histogram.copy_(torch.tensor(counts))
        observer.min_val.fill_(-3.0)
        observer.max_val.fill_(5.0)
    assert same(*pair)


def test_torchao_asks_for_the_range_where_ours_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal parameters alone would not show that torchao had gone back to its own search."""
    observer = observed(HistogramObserver, [torch.randn(100)])
    monkeypatch.setattr(
        "qreg.observers.observers.best_range", lambda *arguments: (0, observer.bins // 2 - 1)
    )
    scale, _ = observer.calculate_qparams()
    middle = (observer.min_val + observer.max_val) / 2
    expected = (middle.clamp(min=0) - observer.min_val) / 255
    torch.testing.assert_close(scale, expected.reshape(1))


def test_state_is_exchanged_with_torchaos() -> None:
    theirs = observed(Torchao, [torch.randn(100)])
    ours = HistogramObserver(**AFFINE)
    ours.load_state_dict(theirs.state_dict())
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert same(ours, theirs)


def test_parameters_before_any_value_are_an_error() -> None:
    with pytest.raises(CalibrationError, match="saw no value"):
        HistogramObserver(**AFFINE).calculate_qparams()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ConstantMinMaxObserver, MinMaxObserver),
        (ConstantPerChannelMinMaxObserver, PerChannelMinMaxObserver),
    ],
)
def test_a_constant_is_looked_at_once(
    ours: type[torch.nn.Module], theirs: type[torch.nn.Module]
) -> None:
    weight = torch.randn(4, 8)
    symmetric = {"dtype": torch.int8, "quant_min": -127, "quant_max": 127}
    once, always = ours(**symmetric), theirs(**symmetric)
    for observer in (once, always):
        observer(weight)
    assert same(once, always)
    before = once.calculate_qparams()
    assert torch.equal(once(weight * 100), weight * 100)
    assert all(map(torch.equal, before, once.calculate_qparams()))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(-1e4, 1e4, width=32),
    st.floats(2**-10, 2**10, width=32),
    st.sampled_from([100, 256, 2048]),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
def test_large_tensors_are_counted_as_torchao_counts_them(
    seed: int, middle: float, spread: float, bins: int, dtype: torch.dtype
) -> None:
    """Beyond the sizes below which ``torch.histc`` counts, and with ranges that need rounding."""
    generator = torch.Generator().manual_seed(seed)
    batches = [
        (torch.randn(3, 50, 40, generator=generator) * spread * number + middle).to(dtype)
        for number in (1, 3, 2)
    ]
    ours, theirs = (observed(make, batches, bins=bins) for make in (HistogramObserver, Torchao))
    assert torch.equal(ours.histogram, theirs.histogram)
    assert (ours.min_val, ours.max_val) == (theirs.min_val, theirs.max_val)
    assert same(ours, theirs)


def test_more_values_than_are_counted_at_once() -> None:
    values = torch.randn(2 * CHUNK + 7)
    low, high = values.min().item(), values.max().item()
    assert torch.equal(
        counted(values, 2048, low, high), torch.histc(values, 2048, min=low, max=high)
    )


def test_a_tensor_that_is_seen_again_through_a_view_counts_twice() -> None:
    values, others = torch.randn(100, 50), torch.randn(100, 50)
    views = [values, values.T, values.reshape(50, 100), values[:50], values.clone(), others]
    assert same(observed(HistogramObserver, views), observed(Torchao, views))


def test_a_tensor_that_was_changed_is_counted_again() -> None:
    pair = HistogramObserver(**AFFINE), Torchao(**AFFINE)
    for observer in pair:
        values = torch.linspace(-1, 1, 5000)
        observer(values)
        values[1:-1] = 0.5
        observer(values)
    assert same(*pair)


def test_tensors_without_a_version_are_counted_every_time() -> None:
    with torch.inference_mode():
        values = torch.linspace(-1, 1, 5000)
        ours = observed(HistogramObserver, [values])
        values[1:-1] = 0.5
        ours(values)
        theirs = observed(Torchao, [torch.linspace(-1, 1, 5000), values])
    assert same(ours, theirs)


def test_infinities_are_left_out_as_torchao_leaves_them_out() -> None:
    values = torch.randn(5000)
    values[7] = float("inf")
    with pytest.warns(UserWarning, match="inf"):
        assert same(observed(HistogramObserver, [values]), observed(Torchao, [values]))


def test_an_observer_can_be_copied_and_written_after_it_counted(tmp_path: Path) -> None:
    ours = observed(HistogramObserver, [torch.randn(5000)])
    torch.save(ours, tmp_path / "observer.pt")
    loaded = torch.load(tmp_path / "observer.pt", weights_only=False)  # our own file
    assert same(loaded, ours)
    assert same(copy.deepcopy(ours), ours)


def test_torchao_rescales_where_ours_is_rescaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal histograms alone would not show that torchao had gone back to its own rescaling."""
    asked = []
    monkeypatch.setattr(
        "qreg.observers.observers.rescaled", lambda *ends: asked.append(ends) or torch.zeros(2048)
    )
    observed(HistogramObserver, [torch.randn(5000), torch.randn(5000) * 2])
    assert len(asked) == 1
