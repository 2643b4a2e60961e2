"""Pins that the threads of the runtime start and change without a word on standard error."""

from __future__ import annotations

import pytest
from executorch.extension.pybindings.portable_lib import _threadpool_get_thread_count

from qreg_xnnpack.compat import set_threads, start_threads


def test_threads_start_and_change_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    start_threads()
    before = _threadpool_get_thread_count()
    set_threads(3)
    assert _threadpool_get_thread_count() == 3
    set_threads(before)
    assert capfd.readouterr().err == ""
