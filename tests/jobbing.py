"""Jobs for the tests of ``qreg.jobs``: functions that other processes can import."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from qreg.errors import CalibrationError


def squared(number: int) -> int:
    return number * number


def process(job: object) -> int:
    return os.getpid()


def threads(job: object) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def failing(number: int) -> int:
    if number == 1:
        raise CalibrationError("it is one", batch=number, input="x")
    return number


class Unportable(Exception):
    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} and {right}")


def failing_unportably(job: object) -> None:
    raise Unportable(1, 2)


def dying_once(job: tuple[int, str]) -> int:
    """Kill the process of the job that has a path, unless the file is there already."""
    number, path = job
    if path and not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def dying(number: int) -> int:
    """Kill the process of job 2."""
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number
