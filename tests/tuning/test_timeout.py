"""Trials with a timeout: made in processes, and failed rows where these hang or crash."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg import Registry
from qreg.errors import InputError, TargetMissedError

TOY = Path(__file__).parents[1] / "toy.py"
X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
ENOUGH = 600.0  # seconds; no test depends on how fast a process starts


@pytest.fixture
def toy_alone(distribution: Callable[..., Path]) -> Registry:
    distribution("qreg-toy", TOY.read_text(encoding="utf-8"))
    return Registry(load=["toy"])


def tune(registry: Registry, evaluate: Callable[..., float], **options: Any) -> qreg.Tuned:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    given: dict[str, Any] = {"algorithms": (), "backends": ["toy"], "progress": False}
    return qreg.tune(
        model, X, calibration=[X], evaluate=evaluate, registry=registry, **given, **options
    )


@pytest.fixture
def mean() -> Callable[..., float]:
    """A metric that travels by value: processes cannot import the modules of tests."""

    def measure(run: Callable[..., Tensor]) -> float:
        return float(run(X).abs().mean())

    return measure


def test_a_trial_in_time_is_as_one_in_this_process(
    toy_alone: Registry, mean: Callable[..., float]
) -> None:
    here, there = (tune(toy_alone, mean, timeout=each) for each in (None, ENOUGH))
    assert here.trials
    assert here.met
    for one, other in zip(here.trials, there.trials, strict=True):
        assert (one.variant, one.metric, one.digest) == (other.variant, other.metric, other.digest)
    assert there.confirmed == here.confirmed


def test_a_trial_that_hangs_is_a_failed_row(
    toy_alone: Registry, mean: Callable[..., float]
) -> None:
    ours = os.getpid()

    def hanging(run: Callable[..., Tensor]) -> float:
        if os.getpid() != ours:
            time.sleep(1000)
        return mean(run)

    with pytest.raises(TargetMissedError) as caught:
        tune(toy_alone, hanging, timeout=0.5)
    assert isinstance(caught.value.tuned, qreg.Tuned)
    (trial,) = caught.value.tuned.trials
    assert trial.failure == "timed out after 0.5 s"
    assert trial.evaluated


def test_a_trial_that_crashes_is_a_failed_row(
    toy_alone: Registry, mean: Callable[..., float]
) -> None:
    ours = os.getpid()

    def crashing(run: Callable[..., Tensor]) -> float:
        if os.getpid() != ours:
            os.kill(os.getpid(), signal.SIGKILL)
        return mean(run)

    with pytest.raises(TargetMissedError) as caught:
        tune(toy_alone, crashing, timeout=ENOUGH)
    assert isinstance(caught.value.tuned, qreg.Tuned)
    (trial,) = caught.value.tuned.trials
    assert trial.failure is not None
    assert "its process ended with the code -9" in trial.failure


def test_a_plugin_that_processes_cannot_load_is_an_error(
    registry: Registry, mean: Callable[..., float]
) -> None:
    with pytest.raises(InputError, match="without a timeout"):
        tune(registry, mean, timeout=ENOUGH)


@pytest.mark.parametrize("timeout", [0, -1.0, "10"])
def test_a_timeout_is_a_number_of_seconds(
    registry: Registry, mean: Callable[..., float], timeout: Any
) -> None:
    with pytest.raises(InputError, match="expected seconds above 0"):
        tune(registry, mean, timeout=timeout)
