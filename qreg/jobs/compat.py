"""What joblib 1.6.0 gets wrong about workers that end; the tests of jobs would notice a change."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from attrs import frozen


@frozen(eq=False)
class _Failed:
    """What the callback of a task of dask is called with instead of a result."""

    error: BaseException


def never_in_this_process(backend: Any) -> None:
    """Make a backend with one worker use it.

    joblib runs jobs in the calling process instead. A job may end its process, and a cluster of
    dask may have one worker left then.
    """
    counted = type(backend).effective_n_jobs
    backend.effective_n_jobs = lambda n_jobs: max(2, counted(backend, n_jobs))


def reporting_failed_tasks(backend: Any) -> None:
    """Make the backend for dask raise the error of a task that could not be run.

    joblib waits forever for such a task, which ended its workers or which they cannot import.
    """
    if type(backend).__name__ != "DaskDistributedBackend":
        return
    submitted, retrieved = type(backend).submit, type(backend).retrieve_result_callback

    def submit(function: Any, callback: Callable[[Any], None]) -> Any:
        def report(future: Future[Any]) -> None:
            error = future.exception()
            if error is not None:
                callback(_Failed(error))

        future = submitted(backend, function, callback)
        future.add_done_callback(report)
        return future

    def retrieve(out: Any) -> Any:
        if isinstance(out, _Failed):
            raise out.error
        return retrieved(backend, out)

    backend.submit, backend.retrieve_result_callback = submit, retrieve
