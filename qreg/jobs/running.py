"""Run independent jobs with joblib, on this machine or on the cluster of ``parallel_config``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed
from joblib.parallel import get_active_backend

from qreg.errors import InputError, WorkerError
from qreg.jobs.compat import never_in_this_process, reporting_failed_tasks
from qreg.jobs.worker import Call, Outcome

Job = TypeVar("Job")
Value = TypeVar("Value")

RETRIES = 2
# The errors of dask and ray for a worker that ended, by their names and those of their bases.
ENDED = {"KilledWorker", "NodeDiedError", "OutOfMemoryError", "RayActorError", "WorkerCrashedError"}


def run(
    function: Callable[[Job], Value],
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    needs: Mapping[str, str] | None = None,
    retries: int = RETRIES,
) -> Iterator[tuple[int, Value]]:
    """Yield the number of each job and what ``function`` returns for it, as the jobs finish.

    Within ``joblib.parallel_config(...)`` jobs run where that says, for example on a cluster of
    dask or ray. Otherwise they run in ``workers`` processes of this machine, each of which computes
    with its share of the cores unless ``OMP_NUM_THREADS`` is set. A process runs one job at a time.
    On ray, all values are yielded at the end, because joblib returns them together there.

    Args:
        function: a function that workers can import; it and the jobs are pickled.
        jobs: plain data: numbers, text, bytes, and attrs classes of them.
        workers: the number of processes. 1 runs the jobs in this process, one after another, also
            within ``parallel_config``. None is one for each core, or what ``parallel_config`` says.
        needs: the distributions that a worker must have, and their versions, as
            :func:`~qreg.jobs.needs.needs` returns them.
        retries: how often unfinished jobs are started again after a worker ended, at least once.
            The last time they run one by one, so that the job at which workers end is known.

    Raises:
        WorkerError: a worker ended once more; the error has the number of the job. Or a worker
            lacks a distribution or has another version; the error has the name of its host.
        Exception: what a job raised, with its fields. Its cause has the traceback of the worker.
            Jobs that have not finished are cancelled.
    """
    check_count("workers", workers)
    check_count("retries", retries)
    if workers == 1:
        yield from ((number, function(job)) for number, job in enumerate(jobs))
        return
    call, waiting = Call(function, needs or {}), dict(enumerate(jobs))
    for attempt in range(retries + 1):
        started = _one_by_one if attempt == retries else _together
        try:
            for outcome in started(call, dict(waiting), workers):
                del waiting[outcome.number]
                yield outcome.number, outcome.get()
            return
        except _WorkerEnded as ended:
            cause = ended.__cause__
    raise WorkerError(
        f"{retries + 1} workers ended before it was done. Their processes crashed or were killed, "
        "for example for lack of memory. Run fewer workers, or the job alone with workers=1",
        job=next(iter(waiting)),
    ) from cause


def in_order(function: Callable[[Job], Value], jobs: Sequence[Job], **options: Any) -> list[Value]:
    """Return what ``function`` returns for each job, in the order of the jobs; see :func:`run`."""
    found = dict(run(function, jobs, **options))
    return [found[number] for number in range(len(jobs))]


def is_configured() -> bool:
    """Whether ``joblib.parallel_config`` says where jobs run."""
    backend, count = get_active_backend()
    return type(backend).__name__ != "LokyBackend" or count is not None


def check_count(name: str, count: int | None) -> None:
    """Raise ``InputError`` unless a number of processes or of retries is at least 1, or None."""
    if count is not None and (not isinstance(count, int) or count < 1):
        raise InputError(f"{name}: {count!r} is not a number of them (expected 1 or more)")


class _WorkerEnded(Exception):
    """The process of a worker ended before its job was done; the cause is joblib's error."""


def _together(call: Call, jobs: Mapping[int, Any], workers: int | None) -> Iterator[Outcome]:
    """Yield the outcome of each job as it finishes. Raises ``_WorkerEnded``."""
    parallel = _parallel(workers)
    with _naming_ended_workers():
        outcomes = parallel(delayed(call)(number, job) for number, job in jobs.items())
        try:
            for outcome in outcomes:  # noqa: UP028 - closing a delegated generator would warn
                yield outcome
        finally:
            _cancel(outcomes)


def _parallel(workers: int | None) -> Parallel:
    """Return joblib's ``Parallel`` on the active backend, or on ``workers`` processes."""
    backend, count = get_active_backend()
    if not is_configured():
        count = workers or cpu_count()
    if not backend.supports_return_generator:  # as that of ray
        return Parallel(n_jobs=-1 if count is None else count, batch_size=1)
    if not getattr(backend, "uses_threads", False):
        never_in_this_process(backend)
    reporting_failed_tasks(backend)
    return Parallel(
        n_jobs=-1 if count is None else count,
        backend=backend,
        batch_size=1,
        return_as="generator_unordered",
    )


def _cancel(outcomes: Iterable[Outcome]) -> None:
    """Cancel the jobs that have not finished."""
    if isinstance(outcomes, Generator):
        with warnings.catch_warnings():  # joblib warns that it cancels jobs
            warnings.simplefilter("ignore")
            outcomes.close()


def _one_by_one(call: Call, jobs: Mapping[int, Any], workers: int | None) -> Iterator[Outcome]:
    for number, job in jobs.items():
        yield from _together(call, {number: job}, workers)


@contextmanager
def _naming_ended_workers() -> Iterator[None]:
    """Raise ``_WorkerEnded`` for the errors with which loky, dask and ray say so."""
    try:
        yield
    except Exception as error:  # jobs return their errors, so this one is of joblib's backend
        names = {each.__name__ for each in type(error).__mro__}
        if isinstance(error, BrokenExecutor) or names & ENDED:
            raise _WorkerEnded from error
        raise
