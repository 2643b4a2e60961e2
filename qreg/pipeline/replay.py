"""Make the converted model of a recipe again, from the values that it recorded."""

from __future__ import annotations

from itertools import islice

from attrs import evolve

from qreg.algorithms.changes import write
from qreg.algorithms.outcome import Outcome
from qreg.analysis.ranges import concerns
from qreg.graph.prepared import copied, float_graph
from qreg.pipeline.calibrate import converted_for
from qreg.pipeline.kept import SAMPLES
from qreg.pipeline.plan import Model
from qreg.pipeline.prepare import prepare_again
from qreg.pipeline.run import Graphs, Run
from qreg.pipeline.source import Data, Source
from qreg.plugins.types.algorithm import REWRITES
from qreg.recipes.pinned import pin_as_recorded
from qreg.recipes.record import Record, Step
from qreg.verification.agreement import check_agreement

REPLAYED = "the recipe has its changes"


def replayed(run: Run, source: Source, data: Data, record: Record) -> Graphs:
    """Prepare a model, write what a recipe recorded for it, and convert it.

    Raises ``RecipeError`` if the model is not that of the recipe.
    """
    record.check_constants(source.program)
    model = run.prepare(source)
    record.check_operators(model.reference)
    samples = list(islice(data.batches(source), SAMPLES))
    check_agreement(source.model, model.reference, samples[0])
    with run.stages.stage("replay"):
        for step in record.steps:
            if step.stage != "converted":
                model = _written(run, model, step)
        pin_as_recorded(model.graph, record.qparams)
        ranges = concerns(model.graph, samples)
        converted = converted_for(run.goal.backend, model.graph)
        model = evolve(model, graph=converted)
        for step in record.steps:
            if step.stage == "converted":
                model = _written(run, model, step)
    return Graphs(
        quantizer=model.quantizer,
        reference=model.reference,
        converted=model.graph,
        samples=samples,
        ranges=ranges,
        record=record,
        outcomes=[_outcome(each) for each in record.steps],
    )


def _written(run: Run, model: Model, step: Step) -> Model:
    """Return the model with the changes of a step, prepared again for one of the float model."""
    if step.stage not in REWRITES:
        return evolve(model, graph=write(copied(model.graph), step.changes, step.stage))
    quantizer = run.quantizer.for_one_run()
    changed = write(copied(model.reference), step.changes, step.stage)
    prepared = prepare_again(changed, quantizer)
    return Model(prepared, float_graph(prepared), quantizer)


def _outcome(step: Step) -> Outcome:
    return Outcome(
        algorithm=step.algorithm,
        stage=step.stage,
        distribution=step.distribution,
        version=step.version,
        kept=True,
        reason=REPLAYED,
        operators=tuple(dict.fromkeys(each.node for each in step.changes)),
    )
