"""Run an untrusted program in a separate process.

A runtime may crash on a damaged program rather than raise. In a separate process the crash becomes
an ordinary error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from qreg.errors import VerificationError
from qreg.jobs.processes import new_processes
from qreg.utils.logging import quiet_imports
from qreg.verification.metrics import Outputs
from qreg.verification.runner import run_program

if TYPE_CHECKING:
    from qreg.plugins.types.backend import Runner
    from qreg.plugins.types.program import Lowered


def run_isolated(
    load: Callable[[bytes], Runner], lowered: Lowered, samples: Sequence[Any], repeats: int = 0
) -> Outputs:
    """Run ``run_program`` in a new process; ``load`` must be a module-level function.

    The new process imports the ``__main__`` module again, so importing it must have no side
    effects. Raises ``VerificationError`` also if the runtime ends its process.
    """
    processes = new_processes()
    with ProcessPoolExecutor(1, mp_context=processes, initializer=quiet_imports) as pool:
        try:
            return pool.submit(run_program, load, lowered, samples, repeats).result()
        except BrokenProcessPool as cause:
            raise VerificationError(
                "the runtime crashed on the program: the file is damaged, or was made for another "
                "version of the runtime"
            ) from cause
