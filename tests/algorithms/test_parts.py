"""Pins statistics in parts: the values of one pass over the data, and few of them at once."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from quantizing import WIDTHS, Deep, batches, quantize
from torch import Tensor

from qreg import Algorithm, Calibration, Candidate, Change, Registry, Statistic
from qreg.algorithms import hessian, stock
from qreg.errors import AlgorithmError
from qreg.pipeline import calibration

SIZES = [4 * width**2 for width in WIDTHS[:-1]]
EACH, TWO = 0, SIZES[1] + SIZES[2]  # bytes for one linear at a time, and for at most two


@pytest.fixture
def within(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Give statistics so many bytes."""
    return lambda most: monkeypatch.setattr(calibration, "budget", lambda _: most)


class Watched:
    """The statistic of moments, with the bytes of values that are in memory at the same time."""

    def __init__(self) -> None:
        self.peak = 0
        self._alive: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()
        self.statistic = Statistic("moments", self._update, size=hessian.size)

    def _update(self, value: Any, node: Any, inputs: Sequence[Tensor], output: Tensor) -> Any:
        found = hessian.update(value, node, inputs, output)
        if found is not None:
            self._alive[id(found)] = found
            self.peak = max(self.peak, sum(each.nbytes for each in self._alive.values()))
        return found


def changes(registry: Registry, algorithm: Algorithm, **more: Any) -> dict[str, Tensor]:
    """Return the weights of the changes of an algorithm."""
    seen: dict[str, Tensor] = {}

    def run(candidate: Candidate, given: Calibration) -> list[Change]:
        found = list(algorithm.run(candidate, given))
        seen.update({each.node: each.constants[1] for each in found})
        return found

    made = evolve(algorithm, run=run, make=None)
    more = {"calibration": batches(8), "verify": False, "algorithms": [made], **more}
    quantize(registry, Deep(), **more)
    assert len(seen) == len(SIZES)
    return seen


@pytest.mark.parametrize("most", [EACH, TWO])
@pytest.mark.parametrize(
    "algorithm", [stock.gptq(), stock.adaround(steps=20)], ids=lambda a: a.name
)
def test_the_weights_are_those_of_one_pass(
    registry: Registry, within: Callable[[int], None], algorithm: Algorithm, most: int
) -> None:
    whole = changes(registry, algorithm)
    within(most)
    for more in ({}, {"calibration": iter(batches(8))}, {"workers": 1}):
        in_parts = changes(registry, algorithm, **more)
        assert all(torch.equal(in_parts[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("most", "peak"),
    [(EACH, max(SIZES)), (TWO, SIZES[2] + SIZES[3]), (sum(SIZES), sum(SIZES))],
)
def test_the_values_that_are_held_fit(
    registry: Registry, within: Callable[[int], None], most: int, peak: int
) -> None:
    within(most)
    watched = Watched()
    changes(registry, evolve(stock.gptq(), statistics=[watched.statistic]))
    assert watched.peak == peak


def test_a_pass_ends_at_the_last_operator_of_its_part(
    registry: Registry, within: Callable[[int], None]
) -> None:
    """Operators are in the order linear, relu, linear, relu: with one linear in each part."""
    ran: list[str] = []

    def count(value: Any, node: Any, inputs: Any, output: Tensor) -> Any:
        ran.append(node.name)
        return hessian.update(value, node, inputs, output)

    within(EACH)
    algorithm = evolve(stock.gptq(), statistics=[Statistic("moments", count, size=hessian.size)])
    changes(registry, algorithm, calibration=batches(2))  # of which one is held back
    assert ran == ["linear", "linear_1", "linear_2", "linear_3"]


def test_batches_that_are_read_again_are_removed(
    registry: Registry,
    within: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[Path] = []

    def run(candidate: Candidate, given: Calibration) -> list[Change]:
        seen.extend(tmp_path.rglob("qreg-calibration-*/*.pt"))
        return []

    within(TWO)
    changes_none = Algorithm("mine", "prepared", "", run, statistics=stock.gptq().statistics)
    quantize(registry, Deep(), calibration=batches(8), algorithms=[changes_none])
    assert len(seen) == 6  # one of four is held back
    assert not [*tmp_path.rglob("*.pt")]


def test_a_statistic_that_fails_in_a_later_pass_is_named(
    registry: Registry, within: Callable[[int], None]
) -> None:
    def update(value: Any, node: Any, inputs: Any, output: Tensor) -> Any:
        if node.name == "linear_3":
            raise ValueError("too deep")
        return hessian.update(value, node, inputs, output)

    within(EACH)
    broken = Statistic("moments", update, size=hessian.size)
    with pytest.raises(AlgorithmError, match=r"'moments' raised ValueError.*'linear_3'"):
        changes(registry, evolve(stock.gptq(), statistics=[broken]))


def test_a_size_that_raises_is_named(registry: Registry) -> None:
    broken = Statistic("moments", hessian.update, size=lambda node: node.missing)
    with pytest.raises(AlgorithmError, match="the size of its statistic 'moments' raised"):
        changes(registry, evolve(stock.gptq(), statistics=[broken]))


def test_the_size_of_moments_is_theirs(registry: Registry) -> None:
    seen: list[tuple[int, int]] = []

    def update(value: Any, node: Any, inputs: Any, output: Tensor) -> Any:
        found = hessian.update(value, node, inputs, output)
        seen.append((hessian.size(node), 0 if found is None else found.nbytes))
        return found

    changes(registry, evolve(stock.gptq(), statistics=[Statistic("moments", update)]))
    assert {size for size, _ in seen} == {0, *SIZES}
    assert all(size == found for size, found in seen)
