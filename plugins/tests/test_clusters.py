"""Pins that jobs and calibration run on real clusters: of dask, and with ``-m ray`` of ray."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jobbing
import joblib
import pytest
from loading import module_of
from quantizing import Net, X, batches, quantize

from qreg import Registry
from qreg.errors import CalibrationError, WorkerError
from qreg.jobs.running import in_order

ROOT = Path(__file__).parents[2]


def dask() -> Iterator[None]:
    """A scheduler and two workers, in processes that speak TCP on the loopback interface."""
    import dask
    from distributed import Client, LocalCluster

    # A task that ended one worker is not started on others, so that the tests are short.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        yield


def ray() -> Iterator[None]:
    """A head with two processors."""
    import ray
    from ray.util.joblib import register_ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # what pytest added to it
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()
    yield
    ray.shutdown()


STARTED = {"dask": dask, "ray": ray}


@pytest.fixture(scope="module", params=["dask", pytest.param("ray", marks=pytest.mark.ray)])
def cluster(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a running cluster."""
    started = STARTED[request.param]()
    next(started)
    yield request.param
    next(started, None)


@pytest.fixture(scope="module")
def toy() -> Registry:
    return Registry({"toy": module_of(ROOT / "tests" / "toy.py", "qreg_toy")}, entry_points=False)


def on(cluster: str) -> AbstractContextManager[Any]:
    return joblib.parallel_config(cluster)


def test_jobs_run_on_the_workers(cluster: str) -> None:
    with on(cluster):
        assert in_order(jobbing.squared, range(5)) == [0, 1, 4, 9, 16]
        processes = set(in_order(jobbing.process, range(8)))
    assert 1 <= len(processes - {os.getpid()}) <= 2
    assert os.getpid() not in processes


def test_errors_come_with_their_fields(cluster: str) -> None:
    with on(cluster), pytest.raises(CalibrationError, match="it is one") as raised:
        in_order(jobbing.failing, range(3))
    assert (raised.value.batch, raised.value.input) == (1, "x")


def test_a_worker_without_a_distribution_is_named(cluster: str) -> None:
    with on(cluster), pytest.raises(WorkerError, match="'qreg-absent' is not installed") as raised:
        in_order(jobbing.squared, [1], needs={"qreg-absent": "1.0"})
    assert raised.value.host


def test_calibration_gives_the_qparams_of_this_process(cluster: str, toy: Registry) -> None:
    given = {"config": "histogram", "calibration": batches(5)}
    with on(cluster):
        there = quantize(toy, workers=2, **given)
    here = quantize(toy, workers=1, **given)
    calls = [
        [node.args[1:] for node in each.converted.graph.nodes if "quant" in str(node.target)]
        for each in (here, there)
    ]
    assert calls[0]
    assert calls[0] == calls[1]


def test_the_guide_runs(cluster: str, toy: Registry) -> None:
    page = (ROOT / "docs" / "parallel.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```py\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    (code,) = [each for each in blocks if f'parallel_config("{cluster}")' in each]
    for elsewhere in ('client = Client("tcp://scheduler:8786")', 'ray.init(address="auto")'):
        code = code.replace(elsewhere, "")  # the cluster is running
    known = {"qreg": SimpleNamespace(quantize=partial(quantize, toy)), "model": Net(), "image": X}
    found: dict[str, Any] = {**known, "batches": batches(4)}
    exec(compile(code, "parallel.md", "exec"), found)
    assert found["result"].verification.good


def test_jobs_of_a_killed_worker_run_again(cluster: str, tmp_path: Path) -> None:
    jobs = [(number, str(tmp_path / "killed") if number == 1 else "") for number in range(4)]
    with on(cluster):
        assert in_order(jobbing.dying_once, jobs) == [0, 1, 2, 3]


def test_a_job_at_which_every_worker_ends_is_named(cluster: str) -> None:
    with on(cluster), pytest.raises(WorkerError, match="job 2: 2 workers ended") as raised:
        in_order(jobbing.dying, range(4), retries=1)
    assert raised.value.job == 2
