"""Runs a program that nobody vouches for in a process of its own.

A runtime that is given a damaged program may end the process rather than raise. Here that is an
error like any other.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from qreg.errors import VerificationError
from qreg.utils.logging import quiet_imports
from qreg.verification.metrics import Outputs
from qreg.verification.runner import run_program

if TYPE_CHECKING:
    from qreg.plugins.types.backend import Runner
    from qreg.plugins.types.program import Lowered


def run_isolated(
    load: Callable[[bytes], Runner], lowered: Lowered, samples: Sequence[Any], repeats: int = 0
) -> Outputs:
    """As ``run_program``, in a new process; ``load`` is a function of a module.

    The new process imports the ``__main__`` module again, which must not start anything then.
    Raises ``VerificationError`` also where the runtime ends its process.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=quiet_imports) as pool:
        try:
            return pool.submit(run_program, load, lowered, samples, repeats).result()
        except BrokenProcessPool as cause:
            raise VerificationError(
                "the runtime crashed on the program: the file is damaged, or was made for another "
                "version of the runtime"
            ) from cause
