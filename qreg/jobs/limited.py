"""Run one job in a process that is ended if it takes too long."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from qreg.errors import WorkerError
from qreg.jobs.processes import new_processes
from qreg.jobs.worker import Call, Outcome

Job = TypeVar("Job")
Value = TypeVar("Value")


def value_within(function: Callable[[Job], Value], job: Job, seconds: float) -> Value:
    """Return what ``function`` returns for a job in a new process, which is ended if it is late.

    The function must be importable, and the job plain data. Raises ``TimeoutError`` if there is no
    value after ``seconds``, ``WorkerError`` if the process ends instead, and what the function
    raises.
    """
    processes = new_processes()
    here, there = processes.Pipe()
    process = processes.Process(target=_serve, args=(there, Call(function, {}), job))
    process.start()
    there.close()
    try:
        if not here.poll(seconds):
            raise TimeoutError(f"timed out after {seconds:g} s")
        outcome: Outcome = pickle.loads(here.recv_bytes())
    except EOFError as cause:
        process.join()
        raise WorkerError(f"its process ended with the code {process.exitcode}", job=0) from cause
    finally:
        here.close()
        process.kill()
        process.join()
    value: Value = outcome.get()
    return value


def _serve(connection: Connection, call: Call, job: Any) -> None:
    # Not send(), with which the process would have to live on to share the memory of tensors.
    connection.send_bytes(pickle.dumps(call(0, job)))
