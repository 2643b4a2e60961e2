"""What happens in a worker: check its environment, run a job, and return its value or its error."""

from __future__ import annotations

import pickle
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from qreg.errors import WorkerError
from qreg.jobs.needs import check
from qreg.utils.logging import quiet_imports

# Workers of dask may have several threads, and torch traces one model at a time.
ONE_AT_A_TIME = threading.RLock()


@frozen
class Outcome:
    """The value of a job, or the error that it raised with its traceback."""

    number: int
    value: Any = None
    error: Exception | None = None
    traceback: str = ""

    def get(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is None:
            return self.value
        raise self.error from RemoteTraceback(self.traceback)


class RemoteTraceback(Exception):
    """The traceback of an error in another process, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@frozen(eq=False, repr=False)  # dask hashes it, and names tasks after it
class Call:
    """A function to call with a job, and the distributions that it needs."""

    function: Callable[[Any], Any]
    needs: Mapping[str, str]

    def __call__(self, number: int, job: Any) -> Outcome:
        try:
            with ONE_AT_A_TIME:
                quiet_imports()
                check(self.needs)
                return Outcome(number, self.function(job))
        except Exception as error:  # raised by a job; raised again in the calling process
            return Outcome(number, None, _portable(error, number), traceback.format_exc())


def _portable(error: Exception, number: int) -> Exception:
    """Return an error that can be pickled: the same, or one with its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # raised by the class of the error
        return WorkerError(f"it raised {error!r}, which cannot be pickled", job=number)
    return error
