"""The stages of the pipeline, from a float module to a program that has been loaded and run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, field, frozen
from torch.export import ExportedProgram
from torch.fx import GraphModule

from qreg.algorithms.outcome import Outcome
from qreg.analysis.audit import audit
from qreg.analysis.bisection import Search
from qreg.analysis.fault_localization import name_suspect
from qreg.analysis.ranges import Range, concerns
from qreg.analysis.sizes import parameter_bytes
from qreg.errors import ProgramError
from qreg.graph.boundary import Boundary
from qreg.graph.mutation import own_state
from qreg.graph.observed import take_observers
from qreg.graph.prepared import float_graph
from qreg.inputs.program_signature import ProgramSignature
from qreg.inputs.quantized_io import FLOAT, IO, boundary_of, check_names
from qreg.inputs.signature import Signature
from qreg.pipeline import cached
from qreg.pipeline.calibrate import check_observers, converted_for
from qreg.pipeline.calibration import Calibrator
from qreg.pipeline.improvement import Trials
from qreg.pipeline.io_ahead import check_io
from qreg.pipeline.kept import Kept
from qreg.pipeline.lower import supported_shapes
from qreg.pipeline.plan import Model, planned
from qreg.pipeline.prepare import prepare_again, prepare_program
from qreg.pipeline.result import Made, Result
from qreg.pipeline.selection import Selection
from qreg.pipeline.shards import check_shards
from qreg.pipeline.source import Batch, Data, Source
from qreg.pipeline.work import Work, work_folder
from qreg.plugins.types.program import Lowered
from qreg.programs.copying import module_of
from qreg.programs.export import export_again, exported
from qreg.programs.loader import Loader
from qreg.programs.lowering import Target
from qreg.programs.methods import names_read
from qreg.programs.training import check_still
from qreg.programs.weights import check_weights
from qreg.quantizer.registry_quantizer import RegistryQuantizer
from qreg.recipes.pinned import pin
from qreg.recipes.record import Record, Step, hashes, operators
from qreg.recipes.values import Named
from qreg.utils.cache import Cache
from qreg.utils.memory import return_freed, return_mapped
from qreg.utils.progress import Stages
from qreg.verification.agreement import check_agreement
from qreg.verification.drops import largest_drops
from qreg.verification.isolation import run_isolated
from qreg.verification.metrics import Outputs
from qreg.verification.runner import run_program
from qreg.verification.verify import Expected, Verification, floor_of

NONE = Selection()


@frozen
class Graphs:
    """The float graph that was annotated and the converted one, with the samples for both.

    ``outcomes`` are those of the algorithms that were tried. ``record`` has what makes the
    converted graph again from the source. ``boundary`` has the inputs and outputs of the program
    that are integers.
    """

    quantizer: RegistryQuantizer
    reference: GraphModule
    converted: GraphModule
    samples: Sequence[Batch]
    ranges: Sequence[Range]
    record: Record
    outcomes: Sequence[Outcome] = ()
    boundary: Boundary = field(factory=Boundary)


@frozen
class Run:
    """A quantizer and a backend with its options, and a method for each stage.

    ``load`` loads a program to verify it; None skips verification. ``seed`` is that of torch's
    random numbers in algorithms. ``workers`` is the number of processes that calibrate shards of
    the data; None calibrates in this process, in one pass. ``notes`` are for the report.
    ``io`` is which inputs and outputs of the program are to be integers. ``timeout`` is when the
    process of the runtime is ended, in seconds; None runs the program in this process. ``work`` is
    a folder that keeps what is finished.
    """

    quantizer: RegistryQuantizer
    goal: Target
    load: Loader | None
    stages: Stages
    seed: int = 0
    workers: int | None = None
    notes: Sequence[str] = ()
    io: IO = FLOAT
    timeout: float | None = None
    work: Path | None = None

    @property
    def floor(self) -> float:
        """The SQNR in dB to the converted model below which a program is an error."""
        return floor_of(self.quantizer.modes)

    def export(self, model: torch.nn.Module | ExportedProgram, inputs: Any, shapes: Any) -> Source:
        """Export the model.

        Raises ``ExportError``, ``InputError`` for inputs and shapes, and ``UnknownNameError`` for
        names in ``io``.
        """
        with self.stages.stage("export"):
            dtypes, allow_float = self.goal.backend.dtypes, self.quantizer.allow_float
            check_weights(model, dtypes, allow_float=allow_float)
            program, example = exported(model, inputs, shapes)
            if self.load is not None:
                check_still(program, model)
            signature = Signature.of_program(program)
            dynamic = supported_shapes(self.goal, program, example)
            graph = own_state(module_of(program))
            check_names(self.io, ProgramSignature.of_graph(graph))
        return Source(program, example, dynamic, signature, graph)

    def quantize(self, source: Source, data: Data, selection: Selection = NONE) -> Graphs:
        """Prepare the program, calibrate it, try the algorithms, and convert it."""
        model = self.prepare(source)
        if self.workers is not None:
            check_shards(model.graph)
        annotated = operators(model.reference)
        backend = self.goal.backend
        check_io(self.io, model, source.example, backend)
        plan = planned(model, selection, backend, readable_again=data.readable_again)
        calibrator = Calibrator(source, data, plan, self.stages, self.workers)
        model, kept = calibrator.calibrated(model)
        fingerprint = model.data
        trials = self._trials(calibrator, kept)
        model, outcomes = trials.improved(model, "float", "prepared", "precision")
        with self.stages.stage("convert"):
            check_observers(model.graph)
            ranges = concerns(model.graph, kept.samples)
            qparams = pin(model.graph)
            converted = converted_for(backend, model.graph)
            return_freed()
        model, late = trials.improved(evolve(model, graph=converted), "converted", earlier=outcomes)
        return Graphs(
            quantizer=model.quantizer,
            reference=model.reference,
            converted=model.graph,
            samples=kept.samples,
            ranges=ranges,
            record=Record(
                constants=hashes(source.program),
                operators=annotated,
                steps=_without_ranges(model.steps),
                qparams=qparams,
                data=fingerprint,
            ),
            outcomes=(*plan.left, *outcomes, *late),
        )

    def prepare(self, source: Source) -> Model:
        """Return the annotated model with observers."""
        with self.stages.stage("prepare"):
            prepared = prepare_program(source.program, self.quantizer)
            return Model(prepared, float_graph(prepared), self.quantizer)

    def _trials(self, calibrator: Calibrator, kept: Kept) -> Trials:
        def prepared_again(changed: GraphModule, known: Model | None) -> Model:
            quantizer = self.quantizer.for_one_run()
            prepared = prepare_again(changed, quantizer)
            model = Model(prepared, float_graph(prepared), quantizer)
            if known is None or not take_observers(prepared, known.calibrated):
                return calibrator.calibrated(model)[0]
            check_agreement(calibrator.source.model, model.reference, kept.samples[0])
            return evolve(model, collected=known.collected, data=known.data)

        entries = self._entries(calibrator.source)
        return Trials(
            plan=calibrator.plan,
            backend=self.goal.backend,
            fitting=kept.fitting,
            held_back=kept.held_back,
            prepare_again=prepared_again,
            strict=self.quantizer.registry.switches.strict,
            stages=self.stages,
            work=None if entries is None else Work(entries, self.goal, self.seed),
            seed=self.seed,
        )

    def _entries(self, source: Source) -> Cache | None:
        if self.work is None:
            return None
        return work_folder(self.work, parameter_bytes(source.program))

    def bounded(self, graphs: Graphs) -> Graphs:
        """Return the same, with the inputs and outputs that are to be integers.

        Raises as :func:`qreg.inputs.quantized_io.boundary_of`.
        """
        decisions = graphs.quantizer.decisions
        boundary = boundary_of(self.io, graphs.reference, graphs.converted, decisions)
        return evolve(graphs, boundary=boundary)

    def lower(
        self, source: Source, graphs: Graphs, min_sqnr: float
    ) -> tuple[Lowered, Verification | None]:
        """Lower the converted program and verify it. Raises ``ProgramError`` with suspects."""
        with self._naming_suspects(graphs):
            expected = self._expected(source, graphs)
            return_freed()
            return_mapped(source.program.state_dict.values())
            with self.stages.stage("lower"):
                lowered = cached.lowered(
                    self.goal,
                    export_again(graphs.converted, source.example, source.shapes, graphs.boundary),
                    self._entries(source),
                )
                return_freed()
            verification = self._verify(expected, graphs, lowered, min_sqnr)
        return lowered, self._with_drops(verification, graphs)

    @contextmanager
    def _naming_suspects(self, graphs: Graphs) -> Iterator[None]:
        """Search for the operator that causes an error, and raise the error with its name."""
        try:
            yield
        except ProgramError as error:
            raise self._named(error, graphs) from error.__cause__

    def _named(self, error: ProgramError, graphs: Graphs) -> ProgramError:
        stage = partial(self.stages.stage, "look for the operator that goes wrong")
        search = Search(self.goal.lower, self.load, self.floor, stage=stage)
        decisions = graphs.quantizer.decisions
        try:
            converted, samples = graphs.converted, graphs.samples
            return name_suspect(error, converted, decisions, samples, search, graphs.reference)
        except Exception as trouble:  # the search must not hide the error it is for
            return error.suspecting(f"the search for the operator failed: {trouble!r}")

    def _expected(self, source: Source, graphs: Graphs) -> Expected | None:
        """Run the models ahead of the lowering, which then needs no weights in float."""
        if self.load is None:
            return None
        with self.stages.stage("run the models"):
            return Expected.of_models(source.model, graphs.converted, graphs.samples)

    def _verify(
        self, expected: Expected | None, graphs: Graphs, lowered: Lowered, min_sqnr: float
    ) -> Verification | None:
        if self.load is None or expected is None:
            return None
        with self.stages.stage("verify"):
            found = expected.verified(
                self.load.in_float(graphs.boundary, lowered.changed_inputs),
                lowered,
                runtime=self.goal.backend.runtime,
                floor=self.floor,
                min_sqnr=min_sqnr,
                run=self._run_program,
            )
        return_freed()
        return found

    @property
    def _run_program(self) -> Callable[..., Outputs]:
        return partial(run_isolated, timeout=self.timeout) if self.timeout else run_program

    def _with_drops(self, found: Verification | None, graphs: Graphs) -> Verification | None:
        """Add the operators at which the SQNR of a poor program drops most."""
        if found is None or found.good:
            return found
        with self.stages.stage("find the noise"):
            drops = largest_drops(
                graphs.reference,
                graphs.converted,
                graphs.samples,
                graphs.quantizer.decisions,
                min_sqnr=found.min_sqnr,
                slices=not found.far,
            )
        return evolve(found, drops=drops)

    def result(
        self,
        name: str,
        source: Source,
        graphs: Graphs,
        lowered: Lowered,
        verification: Verification | None,
        algorithms: str | tuple[Named, ...] = (),
    ) -> Result:
        """Return the results of the stages, with the audit of the program."""
        decisions = tuple(graphs.quantizer.decisions)
        return Result(
            backend=self.goal.name,
            model=name,
            lowered=lowered,
            decisions=decisions,
            audit=audit(decisions, lowered, graphs.converted),
            ranges=graphs.ranges,
            verification=verification,
            reference=graphs.reference,
            converted=graphs.converted,
            samples=graphs.samples,
            example=source.example,
            reads=names_read(source.program),
            dynamic_shapes=source.shapes,
            target=self.goal,
            parameter_bytes=parameter_bytes(source.program),
            seconds=self.stages.seconds,
            notes=(*self.quantizer.notes, *self.notes),
            algorithms=graphs.outcomes,
            made=Made(
                self.quantizer, self.goal.options, algorithms, graphs.record, self.seed, self.io
            ),
            boundary=graphs.boundary,
        )


def _without_ranges(steps: Iterable[Step]) -> list[Step]:
    return [left for each in steps if (left := each.without_ranges()).changes]
