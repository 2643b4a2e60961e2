"""Pins that the runtime starts its threads without a word on standard error."""

from __future__ import annotations

import subprocess
import sys

SOURCE = """
from qreg.utils.logging import quiet_imports
quiet_imports()
from executorch.extension.pybindings.portable_lib import _threadpool_get_thread_count
from qreg_xnnpack.compat import set_threads, start_threads
start_threads()
set_threads(3)
print(_threadpool_get_thread_count())
"""


def test_the_threads_start_without_a_word() -> None:
    command = [sys.executable, "-c", SOURCE]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("3\n", "")
