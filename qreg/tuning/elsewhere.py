"""Make trials in other processes, on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import asdict, evolve, frozen
from joblib import effective_n_jobs

from qreg.errors import WorkerError
from qreg.jobs.limited import value_within
from qreg.jobs.needs import needs
from qreg.jobs.packing import (
    packed,
    packed_function,
    packed_program,
    unpacked,
    unpacked_function,
    unpacked_program,
)
from qreg.jobs.running import in_order, run
from qreg.pipeline.selection import Selection, supplied
from qreg.plugins.registry import Registry
from qreg.recipes.values import Named
from qreg.tuning.making import Product, Subject, made
from qreg.tuning.ranking import Base, Noises, base_of, noises
from qreg.tuning.values import Trial, Variant


@frozen
class Job:
    """A trial as plain data: the exported model, its data, the variant, and what is known.

    The worker loads the plugins itself, with ``switches``. ``evaluate`` is pickled.
    """

    program: bytes
    batches: bytes
    evaluate: bytes
    switches: Mapping[str, Any]
    kept: tuple[str, ...]
    algorithms: tuple[Named, ...]
    variant: Variant
    metrics: Mapping[str, float]
    timeout: float | None = None


@frozen
class Elsewhere:
    """Makes several trials at once, in ``workers`` processes or where joblib is configured to.

    With a ``timeout`` in seconds, each trial has a process that is ended after it.
    """

    subject: Subject
    workers: int | None
    timeout: float | None = None

    @property
    def at_once(self) -> int:
        """The number of trials that are made at once."""
        return self.workers or effective_n_jobs(-1)

    def made(
        self, variants: Sequence[Variant], metrics: Mapping[str, float]
    ) -> Iterator[tuple[Trial, Product | None]]:
        """Yield the trials as they are made."""
        jobs = self._jobs(variants, metrics)
        for _, found in run(_made, jobs, workers=self.workers, needs=self._needs(variants)):
            yield found

    def measured(self, base: Variant, others: Sequence[Variant]) -> tuple[Any, ...]:
        """Return the sensitivities of a program, and the noises in other configs, each a job."""
        variants = [base, *others]
        jobs = [(job, number == 0) for number, job in enumerate(self._jobs(variants, {}))]
        return tuple(in_order(_measured, jobs, workers=self.workers, needs=self._needs(variants)))

    def _jobs(self, variants: Sequence[Variant], metrics: Mapping[str, float]) -> list[Job]:
        subject = self.subject
        algorithms = subject.named
        _selection(algorithms, subject.registry)  # raises for one that workers cannot look up
        shared = Job(
            program=packed_program(subject.program),
            batches=packed(list(subject.batches)),
            evaluate=packed_function(subject.evaluate, "evaluate"),
            switches=asdict(subject.registry.switches, recurse=False),
            kept=subject.kept,
            algorithms=algorithms,
            variant=variants[0],
            metrics=metrics,
            timeout=self.timeout,
        )
        return [evolve(shared, variant=each) for each in variants]

    def _needs(self, variants: Sequence[Variant]) -> dict[str, str]:
        wanted: dict[str, str] = {}
        for each in variants:
            wanted |= needs(self.subject.registry, each.backend)
        return wanted


def _made(job: Job) -> tuple[Trial, Product | None]:
    if job.timeout is None:
        return _made_here(job)
    try:
        return value_within(_made_here, job, job.timeout)
    except (TimeoutError, WorkerError) as error:
        return Trial(job.variant, failure=str(error), evaluated=True), None


def _made_here(job: Job) -> tuple[Trial, Product | None]:
    trial, result = made(_subject(job), job.variant, job.metrics)
    return trial, None if result is None else Product.of(result)


def _measured(given: tuple[Job, bool]) -> Base | Noises | str:
    job, is_base = given
    if job.timeout is None:
        return _measured_here(given)
    try:
        return value_within(_measured_here, given, job.timeout)
    except (TimeoutError, WorkerError) as error:
        if is_base:
            raise
        return str(error)


def _measured_here(given: tuple[Job, bool]) -> Base | Noises | str:
    job, is_base = given
    subject = _subject(job)
    if is_base:
        return base_of(subject.quantized(job.variant))
    return noises(subject, job.variant)


def _subject(job: Job) -> Subject:
    registry = Registry(**job.switches)
    return Subject(
        unpacked_program(job.program),
        unpacked(job.batches),
        unpacked_function(job.evaluate, "evaluate"),
        registry,
        job.kept,
        _selection(job.algorithms, registry),
    )


def _selection(algorithms: Sequence[Named], registry: Registry) -> Selection:
    return Selection(tuple(supplied(each, registry) for each in algorithms))
