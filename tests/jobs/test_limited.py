"""A job that hangs or crashes costs its own process alone."""

from __future__ import annotations

import os
import time

import jobbing
import pytest

from qreg.errors import CalibrationError, WorkerError
from qreg.jobs.limited import value_within

ENOUGH = 600.0  # seconds; no test depends on how fast a process starts


def test_the_value_is_that_of_another_process() -> None:
    assert value_within(jobbing.squared, 3, ENOUGH) == 9
    assert value_within(jobbing.process, None, ENOUGH) != os.getpid()


def test_a_job_that_hangs_is_ended() -> None:
    with pytest.raises(TimeoutError, match=r"^timed out after 0\.1 s$"):
        value_within(time.sleep, 1000.0, 0.1)


def test_a_process_that_ends_is_an_error_with_its_code() -> None:
    with pytest.raises(WorkerError, match="its process ended with the code -9"):
        value_within(jobbing.dying, 2, ENOUGH)


def test_what_a_job_raises_has_its_fields() -> None:
    with pytest.raises(CalibrationError) as caught:
        value_within(jobbing.failing, 1, ENOUGH)
    assert caught.value.batch == 1
