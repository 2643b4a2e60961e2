"""Start processes for what may crash, without the seconds that each would import torch for."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import tempfile
from typing import TYPE_CHECKING

from qreg.errors import InputError

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

# Imported once, in a server that new processes are forked from. It computes nothing, so it has no
# threads that a fork would lose.
PRELOADED = ["qreg.jobs.preloaded", "qreg.pipeline.quantize"]
TIMEOUT = 3600.0  # seconds that another process waits for an answer, by default
# The server's socket is a file, whose path is at most 107 bytes on Linux (man 7 unix), in a folder
# that multiprocessing makes: "/pymp-", "/listener-" and two names of 8 characters.
LONGEST_FOLDER = 107 - 32
# Variables that pytest and libraries set themselves while they run.
NOT_SET_BY_USERS = {
    *("PYTEST_CURRENT_TEST", "KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK"),
    *("DISABLE_CUPTI_LAZY_REINIT", "TEARDOWN_CUPTI"),
}


def new_processes() -> ForkServerContext | SpawnContext:
    """Return the context of :mod:`multiprocessing` to start processes with.

    A process imports the ``__main__`` module again, so importing it must have no side effects. On
    Linux processes are forked from a server, which keeps the environment variables of its start:
    if they have changed since, processes are spawned, as on other systems. They are as well where
    the path of the folder of temporary files is too long for the server's socket.
    """
    if sys.platform == "linux" and len(os.fsencode(tempfile.gettempdir())) <= LONGEST_FOLDER:
        context, variables = _server()
        if variables == _variables():
            return context
    return multiprocessing.get_context("spawn")


def check_timeout(seconds: object) -> None:
    """Raise ``InputError`` unless a timeout is a number of seconds above 0, or None."""
    if seconds is not None and not (isinstance(seconds, (int, float)) and seconds > 0):
        raise InputError(f"timeout: it is {seconds!r} (expected seconds above 0, or None)")


@functools.cache
def _server() -> tuple[ForkServerContext, dict[str, str]]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context, _variables()


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in NOT_SET_BY_USERS}
