"""Quantize a model for several backends, and run their programs in turns."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attrs import asdict, evolve
from torch.export import ExportedProgram

from qreg.comparison.comparison import Comparison
from qreg.comparison.contender import Contender, Task
from qreg.comparison.values import FLOAT, Entry
from qreg.errors import (
    CalibrationError,
    VerificationError,
)
from qreg.inputs.batches import NO_BATCH, capped, check_batches, checked, transformed
from qreg.inputs.signature import Signature
from qreg.inputs.specs import flat
from qreg.jobs.processes import TIMEOUT
from qreg.pipeline.arguments import public_function
from qreg.pipeline.precision import to_float32
from qreg.pipeline.selection import Algorithms, Selection, selected
from qreg.plugins.chosen import chosen_configs
from qreg.plugins.registry import DEFAULT, Registry, installed
from qreg.programs.copying import copied
from qreg.programs.export import exported, name_of
from qreg.programs.tensors_only import tensors_only
from qreg.utils.progress import Stages
from qreg.verification.latency import ROUNDS, WARM_UP, latency
from qreg.verification.verdict import check_min_sqnr
from qreg.verification.verify import MIN_SQNR


@public_function
def compare(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    *,
    backends: Sequence[str],
    calibration: Iterable[Any],
    max_batches: int | None = None,
    transform: Callable[[Any], Any] | None = None,
    configs: Mapping[str, str] | None = None,
    threads: int | None = 1,
    rounds: int = ROUNDS,
    timeout: float | None = TIMEOUT,
    keep_in_float: Sequence[str] = (),
    algorithms: Algorithms = (),
    min_sqnr: float = MIN_SQNR,
    dynamic_shapes: Any = None,
    progress: bool | None = None,
    registry: Registry | None = None,
    on_entry: Callable[[Comparison], object] | None = None,
) -> Comparison:
    """Quantize a model for each backend, one after another, and time the programs in turns.

    Each backend runs in a separate process, which loads the installed plugins as in ``registry``.
    The processes import the script again, so it must call ``compare`` below
    ``if __name__ == "__main__":`` only. Meanwhile, the batches of ``calibration`` are stored on
    disk. The names of backends and configs are checked ahead of any work. A backend that fails with
    any other error is an entry with the reason.

    The arguments that are not listed below are those of :func:`qreg.quantize`. ``calibration``
    needs at least one batch.

    Args:
        backends: the backends to compare, by their names.
        configs: the name of the config for each backend that does not use its default config.
        threads: the number of threads of each program; None: the runtimes decide.
        rounds: the number of timed turns of each program.
        timeout: the seconds in which a backend must make its program, and in which the program
            must run once. A process that takes longer is ended, and its entry is a failure. None
            waits without limit.
        keep_in_float: modules (by path) and operators (by name) to keep in float, for every
            backend.
        on_entry: called with the comparison so far whenever an entry is complete but for its
            latency. If ``compare`` is interrupted, these entries are not lost.

    Returns:
        The comparison, with an entry for the float model and one for each backend.

    Raises:
        UnknownNameError: for a backend or config that does not exist.
        QregError: as ``quantize``, for a model that does not export and for batches that do not
            match its inputs.
    """
    check_min_sqnr(min_sqnr)
    registry = registry or installed()
    chosen = chosen_configs(registry, backends, configs or {}, besides=(FLOAT,))
    kinds = [registry.backend(name).value for name in chosen]
    given = to_float32(model, example_inputs, transform, kinds)
    program, _ = exported(given.model, given.example_inputs, dynamic_shapes)
    check_batches(calibration)
    read = transformed(capped(calibration, max_batches), given.transform)
    batches = list(checked(read, Signature.of_program(program)))
    if not batches:
        raise CalibrationError(NO_BATCH)
    switches, kept = asdict(registry.switches, recurse=False), tuple(keep_in_float)
    tried = algorithms if isinstance(algorithms, (str, Selection)) else tuple(algorithms)
    selected(registry, tried)
    with _files(program, batches) as (stored, data):
        plain = Task(
            FLOAT, stored, data, DEFAULT, threads, switches, min_sqnr, kept, tried, timeout
        )
        tasks = [plain, *(evolve(plain, backend=n, config=c) for n, c in chosen.items())]
        made = partial(Comparison, name_of(model), rounds, threads)

        def note(entries: Sequence[Entry]) -> None:
            if on_entry is not None:
                on_entry(made(tuple(entries)))

        return made(_entries(tasks, rounds, progress, note))


def _entries(
    tasks: Sequence[Task],
    rounds: int,
    progress: bool | None,
    note: Callable[[Sequence[Entry]], None],
) -> tuple[Entry, ...]:
    """Run a process for each task, and return their entries with the latencies.

    ``note`` is called with the entries so far after each.
    """
    with Stages(progress) as stages, contextlib.ExitStack() as running:
        entries, contenders = _begun(tasks, stages, running, note)
        with stages.stage("run in turns", WARM_UP + rounds) as each:
            times = _timed(entries, contenders, rounds, each)
    return tuple(evolve(e, milliseconds=times.get(e.backend) if e.works else None) for e in entries)


def _begun(
    tasks: Sequence[Task],
    stages: Stages,
    running: contextlib.ExitStack,
    note: Callable[[Sequence[Entry]], None],
) -> tuple[list[Entry], list[Contender | None]]:
    """Start the processes of the tasks, to be ended by ``running``, and return their entries.

    A process that could not be started, or whose entry could not be received, is None.
    """
    entries: list[Entry] = []
    contenders: list[Contender | None] = []
    for task in tasks:
        with stages.stage(task.backend):
            entry, contender = _began(task, running)
        entries.append(entry)
        contenders.append(contender)
        note(entries)
    return entries, contenders


def _began(task: Task, running: contextlib.ExitStack) -> tuple[Entry, Contender | None]:
    try:
        contender = running.enter_context(contextlib.closing(Contender(task)))
        return contender.entry(), contender
    except Exception as error:  # it must not cost the other entries
        return Entry(task.backend, failure=repr(error)), None


@contextmanager
def _files(program: ExportedProgram, batches: list[Any]) -> Iterator[tuple[Path, Path]]:
    """Store the model and its data in files that other processes can read.

    Both are reduced to tensors: another process may not know the types of inputs and outputs.
    """
    with tempfile.TemporaryDirectory(prefix="qreg-compare-") as folder:
        stored, data = Path(folder, "model.pt2"), Path(folder, "data.pt")
        torch.export.save(tensors_only(copied(program)), stored)
        torch.save([tuple(flat(batch)) for batch in batches], data)
        yield stored, data


def _timed(
    entries: list[Entry],
    contenders: Sequence[Contender | None],
    rounds: int,
    each: Callable[[], None],
) -> dict[str, float]:
    """Return the latency of each program in milliseconds; record the failure of an entry."""
    times: dict[str, list[float]] = {}
    for number in range(WARM_UP + rounds):
        for position, contender in enumerate(contenders):
            if contender is None or not contender.can_run or not entries[position].works:
                continue
            try:
                seconds = contender.lap()
            except VerificationError as error:
                entries[position] = evolve(entries[position], failure=str(error))
                continue
            if number >= WARM_UP:
                times.setdefault(entries[position].backend, []).append(seconds)
        each()
    return {name: 1000 * latency(found) for name, found in times.items()}
