"""Pins jobs: values come as they finish, errors come intact, and a killed worker is retried."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jobbing
import joblib
import pytest
from joblib.externals.loky import get_reusable_executor

from qreg import Registry
from qreg.errors import CalibrationError, InputError, WorkerError
from qreg.jobs.needs import needs
from qreg.jobs.running import in_order, run


@pytest.fixture(autouse=True, scope="module")
def no_processes_left() -> Iterator[None]:
    yield
    get_reusable_executor().shutdown(kill_workers=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_values_come_with_the_number_of_their_job(workers: int) -> None:
    found = dict(run(jobbing.squared, range(5), workers=workers))
    assert found == {0: 0, 1: 1, 2: 4, 3: 9, 4: 16}
    assert in_order(jobbing.squared, range(5), workers=workers) == [0, 1, 4, 9, 16]


def test_one_worker_is_this_process() -> None:
    assert in_order(jobbing.process, [0, 1], workers=1) == [os.getpid()] * 2
    assert os.getpid() not in in_order(jobbing.process, [0, 1], workers=2)


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    share = str(max(1, joblib.cpu_count() // 2))
    assert in_order(jobbing.threads, [0, 1], workers=2) == [share] * 2


def test_parallel_config_says_where_jobs_run() -> None:
    with joblib.parallel_config("threading", n_jobs=2):
        assert in_order(jobbing.process, [0, 1]) == [os.getpid()] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_job_comes_with_its_fields(workers: int) -> None:
    with pytest.raises(
        CalibrationError, match=r"^calibration batch 1: input 'x': it is one$"
    ) as it:
        in_order(jobbing.failing, range(3), workers=workers)
    assert (it.value.problem, it.value.batch, it.value.input) == ("it is one", 1, "x")


def test_the_cause_of_an_error_has_the_traceback_of_the_worker() -> None:
    with pytest.raises(CalibrationError) as raised:
        in_order(jobbing.failing, range(3), workers=2)
    assert "jobbing.py" in str(raised.value.__cause__)


def test_an_error_that_cannot_be_pickled_comes_as_text() -> None:
    with pytest.raises(
        WorkerError, match=r"job 0: it raised Unportable\('1 and 2'\), which cannot"
    ):
        in_order(jobbing.failing_unportably, [0], workers=2)


def test_jobs_of_a_killed_worker_run_again(tmp_path: Path) -> None:
    jobs = [(number, str(tmp_path / "killed") if number == 1 else "") for number in range(4)]
    assert in_order(jobbing.dying_once, jobs, workers=2) == [0, 1, 2, 3]
    assert (tmp_path / "killed").exists()


def test_a_job_at_which_every_worker_ends_is_named() -> None:
    found: dict[int, int] = {}
    with pytest.raises(WorkerError, match=r"^job 2: 2 workers ended before it was done") as raised:
        found.update(run(jobbing.dying, range(4), workers=2, retries=1))
    assert raised.value.job == 2


def test_a_worker_without_a_distribution_names_it() -> None:
    with pytest.raises(WorkerError, match="distribution 'qreg-absent' is not installed") as raised:
        in_order(jobbing.squared, [2], workers=2, needs={"qreg-absent": "1.0"})
    assert raised.value.distribution == "qreg-absent"
    assert raised.value.host
    with pytest.raises(WorkerError, match=r"'attrs' has version .* \(expected 0.1"):
        in_order(jobbing.squared, [2], workers=2, needs={"attrs": "0.1"})


def test_a_plugin_that_other_processes_cannot_load_is_refused(registry: Registry) -> None:
    with pytest.raises(InputError, match="plugin 'toy': it was passed as an object"):
        needs(registry, "toy")


@pytest.mark.parametrize("workers", [0, -1, 1.5])
def test_a_number_of_workers_is_positive(workers: int) -> None:
    with pytest.raises(InputError, match=r"^workers: .* \(expected 1 or more\)"):
        in_order(jobbing.squared, [1], workers=workers)


def test_without_jobs_there_are_no_values() -> None:
    assert in_order(jobbing.squared, [], workers=2) == []
