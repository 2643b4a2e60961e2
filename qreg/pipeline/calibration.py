"""Calibrate the prepared model of a run, in this process or in several."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from attrs import evolve, frozen
from torch.fx import GraphModule

from qreg.algorithms.collecting import Collecting
from qreg.algorithms.parts import budget, divided
from qreg.analysis.failing import naming_failure
from qreg.analysis.sizes import parameter_bytes
from qreg.graph.mutation import written_buffers
from qreg.inputs.batches import BATCH
from qreg.inputs.fingerprint import Hashed
from qreg.pipeline.calibrate import feed
from qreg.pipeline.kept import Kept
from qreg.pipeline.plan import Model, Plan
from qreg.pipeline.shards import Sharded
from qreg.pipeline.source import Batch, Data, Source
from qreg.pipeline.storage import stored, temporary
from qreg.utils.progress import Stages
from qreg.verification.agreement import check_agreement


@frozen
class Calibrator:
    """The data to calibrate prepared models of one source with, and in how many processes.

    With ``workers=None`` this process calibrates, in one pass.
    """

    source: Source
    data: Data
    plan: Plan
    stages: Stages
    workers: int | None

    def calibrated(self, model: Model) -> tuple[Model, Kept]:
        """Run the batches, and collect statistics; compare the graph with the model on one batch.

        Returns the model with the statistics, and the batches that are kept.
        """
        read = Hashed(self.data.batches(self.source))
        checked = _checking_first(read, partial(self._check, model.reference))
        kept = Kept(checked, bool(self.plan.algorithms))
        observing = self.workers is None  # or shards observe
        division = divided(model.graph, self.plan.statistics, self._most(model))
        collecting = Collecting(
            model.graph, self.plan.statistics, observing=observing, only=division.first
        )
        again = None if division.is_whole else temporary()

        def run(batch: Batch) -> None:
            collecting.updating = not kept.is_holding_back
            if again is not None and collecting.updating:
                again.add(batch)
            collecting.run(*batch)

        collect = run if self.plan.statistics else None
        if self.workers is None:
            with self.stages.stage("calibrate", self.data.steps) as each:
                feed(model.graph, kept, each, collect)
        else:
            self._calibrate_shards(model, kept, collect, self.workers)
        found = collecting.collected
        if again is not None:
            found = division.completed(found, again)
        data = None if self.data.calibration is None else read.fingerprint
        return evolve(model, collected=found, data=data), kept

    def _check(self, reference: GraphModule, batch: Batch) -> None:
        """Compare a graph with the model on the first batch, or on the example inputs."""
        example = self.data.calibration is None
        number, what = (None, "example_inputs") if example else (0, BATCH)
        with naming_failure(self.source.model, batch, number, what):
            check_agreement(self.source.model, reference, batch)

    def _most(self, model: Model) -> int:
        """Return the bytes for the values of a statistic.

        Passes that begin with the second part would not have the state that calls leave.
        """
        if written_buffers(model.graph.graph):
            return sys.maxsize
        return budget(parameter_bytes(self.source.program))

    def _calibrate_shards(
        self, model: Model, kept: Kept, collect: Callable[[Batch], None] | None, workers: int
    ) -> None:
        """Store the batches, collecting statistics from each, and calibrate the model with them."""
        with stored() as storage:

            def store(batch: Batch) -> None:
                storage.add(batch)
                if collect is not None:
                    collect(batch)

            with self.stages.stage("store batches", self.data.steps) as each:
                count = feed(model.reference, kept, each, store)
            example = self.source.example
            sharded = Sharded(model.graph, self.source.program, example, storage, workers)
            with self.stages.stage("calibrate", count * sharded.passes) as each:
                sharded.calibrate(each)


def _checking_first(batches: Iterable[Batch], check: Callable[[Batch], None]) -> Iterator[Batch]:
    """Yield the batches, and check the first one before it is yielded."""
    for number, batch in enumerate(batches):
        if not number:
            check(batch)
        yield batch
