"""Run one backend in a separate process, which quantizes the model and then runs it on request.

A runtime that crashes ends its own process only, and runtimes do not share thread pools.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from attrs import evolve, frozen

from qreg.comparison.values import FLOAT, Entry
from qreg.errors import QregError, UnknownOperatorWarning, VerificationError
from qreg.inputs.specs import cloned, flat, split
from qreg.jobs.processes import new_processes
from qreg.programs.copying import module_of
from qreg.programs.files import read_batches, read_program
from qreg.utils.logging import quiet_imports
from qreg.verification.latency import timed
from qreg.verification.verdict import shortfall

if TYPE_CHECKING:
    from qreg.pipeline.result import Result
    from qreg.pipeline.selection import Algorithms
    from qreg.plugins.registry import Registry

LAP = "lap"
LAST_WORDS = 300  # characters of what a process wrote before it ended
SIMULATED = "its runtime is a simulator, so the program was not timed"
UNTIMED = "the backend has no option for the number of threads: the runtime decided"


@frozen
class Task:
    """The task of one process. Its registry loads the installed plugins with ``switches``."""

    backend: str
    model: Path
    calibration: Path
    config: str
    threads: int | None
    switches: Mapping[str, Any]
    min_sqnr: float
    kept: tuple[str, ...] = ()
    algorithms: Algorithms = ()
    timeout: float | None = None  # seconds until the process is ended that has no answer


class Contender:
    """A handle to the process of one backend."""

    def __init__(self, task: Task) -> None:
        context = new_processes()
        self._backend, self._timeout = task.backend, task.timeout
        self._connection, theirs = context.Pipe()
        self._written = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed by close()
        arguments = (theirs, task, self._written.name)
        self._process = context.Process(target=_serve, args=arguments)
        self._process.start()
        theirs.close()
        self.can_run = False

    def entry(self) -> Entry:
        """Return the result for the model; if the process has ended, the entry is a failure."""
        try:
            found, self.can_run = self._answer()
        except EOFError:
            return Entry(self._backend, failure=self._end())
        except TimeoutError as late:
            return Entry(self._backend, failure=str(late))
        entry: Entry = found
        return entry

    def lap(self) -> float:
        """Return the duration of one run in seconds.

        Raises ``VerificationError`` if the process ends instead, or does not answer.
        """
        try:
            self._connection.send(LAP)
            seconds: float = self._answer()
        except TimeoutError as late:
            raise VerificationError(str(late)) from late
        except (EOFError, OSError) as cause:
            raise VerificationError(self._end()) from cause
        return seconds

    def _answer(self) -> Any:
        """Return what the process sends; end it and raise ``TimeoutError`` if it is late."""
        if self._connection.poll(self._timeout):
            return self._connection.recv()
        self._process.kill()
        raise TimeoutError(
            f"its process had no answer after {self._timeout:g} s, and was ended. Pass a longer "
            "timeout."
        )

    def _end(self) -> str:
        self._process.join()
        words = Path(self._written.name).read_text(errors="replace").strip()[-LAST_WORDS:]
        last = f", after {words!r}" if words else ""
        return f"its process ended with the code {self._process.exitcode}{last}"

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=5)
        self._process.kill()
        self._process.join()
        self._written.close()


def _serve(connection: Connection, task: Task, written: str) -> None:
    """Run the process: send an entry, then the duration of a run for each lap."""
    _redirect(written)
    quiet_imports()
    entry, run = attempt(task)
    connection.send((entry, run is not None))
    with contextlib.suppress(EOFError):  # the other side has closed the connection
        while run is not None and connection.recv() == LAP:
            connection.send(timed(run))


def _redirect(written: str) -> None:
    """Redirect the file descriptors, since native libraries bypass ``sys.stdout``."""
    target = os.open(written, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(target, descriptor)


def attempt(task: Task) -> tuple[Entry, Callable[[], object] | None]:
    """Return the entry of a task, and a run of its program; any failure is an entry."""
    try:
        return _prepared(task)
    except QregError as error:
        return Entry(task.backend, failure=str(error)), None
    except Exception as error:  # its reason is the entry
        return Entry(task.backend, failure=repr(error)), None


def _prepared(task: Task) -> tuple[Entry, Callable[[], object] | None]:
    if task.threads:
        torch.set_num_threads(task.threads)
    return _float(task) if task.backend == FLOAT else _quantized(task)


def _float(task: Task) -> tuple[Entry, Callable[[], object]]:
    from qreg.analysis.sizes import parameter_bytes

    program = read_program(task.model)
    model = module_of(program)
    (sample, *_) = read_batches(task.calibration)
    arguments, named = split(model, sample)
    entry = Entry(FLOAT, runtime="torch", bytes=parameter_bytes(program), threads=task.threads)

    def run() -> object:
        with torch.no_grad():
            return model(*arguments, **named)

    return entry, run


def _quantized(task: Task) -> tuple[Entry, Callable[[], object] | None]:
    from qreg.plugins.registry import Registry

    registry = Registry(**task.switches)
    settable = {option.name for option in registry.backend(task.backend).value.options}
    threads = task.threads if "threads" in settable else None
    with _scopes_without_effect() as notes:
        result = _result(task, registry, {} if threads is None else {"threads": threads})
    entry = evolve(_described(result), threads=threads)
    entry = evolve(entry, notes=(*entry.notes, *notes, *_why_untimed(result, task, threads)))
    runs = result.target.load is not None and not result.target.backend.simulated
    return entry, _runner(result) if runs else None


def _result(task: Task, registry: Registry, options: dict[str, Any]) -> Result:
    from qreg.pipeline.quantize import quantize
    from qreg.quantizer.registry_quantizer import RegistryQuantizer, keep_in_float

    batches = read_batches(task.calibration)
    quantizer = RegistryQuantizer(task.backend, task.config, registry=registry)
    return quantize(
        read_program(task.model),
        batches[0],
        quantizer=keep_in_float(quantizer, task.kept),
        algorithms=task.algorithms,
        calibration=batches,
        min_sqnr=task.min_sqnr,
        options=options,
        progress=False,
    )


@contextmanager
def _scopes_without_effect() -> Iterator[list[str]]:
    """Collect the warnings about scopes; other warnings of this process are dropped."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnknownOperatorWarning)
        yield found
    found += [str(each.message) for each in caught if each.category is UnknownOperatorWarning]


def _why_untimed(result: Result, task: Task, threads: int | None) -> Iterator[str]:
    """Yield a note if a program is not timed, or its number of threads cannot be set."""
    if result.target.load is None:
        return
    if result.target.backend.simulated:
        yield SIMULATED
    elif task.threads and threads is None:
        yield UNTIMED


def _runner(result: Result) -> Callable[[], object]:
    run = result.target.loader(result.program)
    inputs = [value.contiguous() for value in flat(cloned(result.samples[0]))]

    def lap() -> object:
        with torch.no_grad():
            return run(inputs)

    return lap


def _described(result: Result) -> Entry:
    report, verified = result.report, result.verification
    entry = Entry(
        backend=result.backend,
        config=", ".join(report.configs),
        runtime=result.target.backend.runtime,
        bytes=len(result.program),
        int8_share=report.int8_share,
        operators=len(report.operators),
        int8_operators=report.counts["int8"],
        report=report,
    )
    if verified is None:
        return entry
    return evolve(
        entry,
        sqnr_to_float=min(each.sqnr for each in verified.to_float),
        cosine=min(each.cosine for each in verified.to_float),
        sqnr_to_converted=min(each.sqnr for each in verified.to_converted),
        verdict=verified.verdict,
        notes=() if verified.good else (shortfall(verified),),
    )
