"""Make trials in other processes, on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import asdict, frozen
from joblib import effective_n_jobs

from qreg.jobs.needs import needs
from qreg.jobs.packing import (
    packed,
    packed_function,
    packed_program,
    unpacked,
    unpacked_function,
    unpacked_program,
)
from qreg.jobs.running import run
from qreg.pipeline.selection import Selection, supplied
from qreg.plugins.registry import Registry
from qreg.recipes.values import Named
from qreg.tuning.making import Product, Subject, made
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


@frozen
class Elsewhere:
    """Makes several trials at once, in ``workers`` processes or where joblib is configured to."""

    subject: Subject
    workers: int | None

    @property
    def at_once(self) -> int:
        """The number of trials that are made at once."""
        return self.workers or effective_n_jobs(-1)

    def made(
        self, variants: Sequence[Variant], metrics: Mapping[str, float]
    ) -> Iterator[tuple[Trial, Product | None]]:
        """Yield the trials as they are made."""
        subject = self.subject
        algorithms = subject.named
        _selection(algorithms, subject.registry)  # raises for one that workers cannot look up
        program = packed_program(subject.program)
        batches = packed(list(subject.batches))
        evaluate = packed_function(subject.evaluate, "evaluate")
        switches = asdict(subject.registry.switches, recurse=False)
        jobs = [
            Job(
                program,
                batches,
                evaluate,
                switches,
                subject.kept,
                algorithms,
                each,
                metrics,
            )
            for each in variants
        ]
        wanted: dict[str, str] = {}
        for each in variants:
            wanted |= needs(subject.registry, each.backend)
        for _, found in run(_made, jobs, workers=self.workers, needs=wanted):
            yield found


def _made(job: Job) -> tuple[Trial, Product | None]:
    registry = Registry(**job.switches)
    selection = _selection(job.algorithms, registry)
    subject = Subject(
        unpacked_program(job.program),
        unpacked(job.batches),
        unpacked_function(job.evaluate, "evaluate"),
        registry,
        job.kept,
        selection,
    )
    trial, result = made(subject, job.variant, job.metrics)
    return trial, None if result is None else Product.of(result)


def _selection(algorithms: Sequence[Named], registry: Registry) -> Selection:
    return Selection(tuple(supplied(each, registry) for each in algorithms))
