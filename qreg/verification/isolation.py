"""Run an untrusted program in a separate process.

A runtime may crash on a damaged program rather than raise, or never return. In a separate process
both become ordinary errors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from qreg.errors import CrashError, HangError
from qreg.jobs.processes import TIMEOUT, new_processes
from qreg.utils.logging import quiet_imports
from qreg.verification.metrics import Outputs
from qreg.verification.runner import run_program

if TYPE_CHECKING:
    from qreg.plugins.types.backend import Runner
    from qreg.plugins.types.program import Lowered


def run_isolated(
    load: Callable[[bytes], Runner],
    lowered: Lowered,
    samples: Sequence[Any],
    repeats: int = 0,
    *,
    timeout: float | None = TIMEOUT,
) -> Outputs:
    """Run ``run_program`` in a new process; ``load`` must be a module-level function.

    The new process imports the ``__main__`` module again, so importing it must have no side
    effects. It is ended if it has no outputs after ``timeout`` seconds; None waits without limit.

    Raises the errors of ``run_program``, ``CrashError`` if the runtime ends its process, and
    ``HangError`` after the timeout.
    """
    processes = new_processes()
    here, there = processes.Pipe()
    process = processes.Process(target=_serve, args=(there, load, lowered, samples, repeats))
    process.start()
    there.close()
    try:
        if not here.poll(timeout):
            raise HangError(
                f"the runtime has not run the program after {timeout:g} s, and was ended (expected "
                "outputs by then). Pass a longer timeout, or fewer inputs"
            )
        outputs, error = here.recv()
    except EOFError as cause:
        raise CrashError(
            "the runtime crashed on the program (expected outputs). Its file is damaged or made "
            "for another version of the runtime, or the runtime has a fault in one of its "
            "operators: keep those that are in doubt in float"
        ) from cause
    finally:
        here.close()
        process.kill()
        process.join()
    if error is not None:
        raise error
    found: Outputs = outputs
    return found


def _serve(connection: Connection, *arguments: Any) -> None:
    """Run the process: send the outputs and None, or None and an error.

    It ends when the other side closes the connection: it shares the memory of the outputs.
    """
    quiet_imports()
    answer: tuple[Outputs | None, Exception | None]
    try:
        answer = run_program(*arguments), None
    except Exception as error:  # it is raised in the other process
        answer = None, error
    connection.send(answer)
    with contextlib.suppress(EOFError):
        connection.recv()
