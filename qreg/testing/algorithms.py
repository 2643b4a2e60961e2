"""Tests of the algorithms that a plugin supplies."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any
from unittest import SkipTest

import torch
from attrs import asdict
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from qreg.algorithms.changes import write
from qreg.algorithms.collecting import Collecting
from qreg.errors import AlgorithmError, QregError
from qreg.graph.prepared import copied, float_graph
from qreg.pipeline.calibrate import convert, feed
from qreg.pipeline.prepare import prepare_checked
from qreg.plugins.types.algorithm import REWRITES, Algorithm, Calibration, Candidate, Change
from qreg.programs.export import exported
from qreg.quantizer.registry_quantizer import RegistryQuantizer
from qreg.testing.running import check_runs_here
from qreg.testing.subject import Sample
from qreg.testing.suite import Suite
from qreg.verification.metrics import compare_all, is_far
from qreg.verification.runner import outputs_of

DATA = ("name", "stage", "parameters", "before", "after", "conflicts", "automatic", "runs_model")
EXACT = 60.0  # dB; a rewrite in float computes the same, up to rounding


class AlgorithmTests(Suite):
    """Each test is run for each algorithm, on its samples in the default config of the backend."""

    def test_the_algorithm_changes_its_sample(self, algorithm: str) -> None:
        for tried in self._tries(algorithm):
            assert tried.changes(), (
                f"{algorithm!r} returns no change for its sample. Use a sample that it can improve"
            )

    def test_its_changes_can_be_written(self, algorithm: str) -> None:
        for tried in self._tries(algorithm):
            try:
                tried.written()
            except AlgorithmError as error:
                raise AssertionError(f"the changes of {algorithm!r} are invalid: {error}") from None

    def test_it_modifies_nothing_itself(self, algorithm: str) -> None:
        for tried in self._tries(algorithm):
            graph, tensors = str(tried.graph), copy.deepcopy(tried.candidate.model.state_dict())
            tried.changes()
            after = tried.candidate.model.state_dict()
            changed = [name for name in tensors if not torch.equal(after[name], tensors[name])]
            changed += [] if str(tried.graph) == graph else ["the graph"]
            assert not changed, (
                f"{algorithm!r} modifies {', '.join(changed)} of the candidate. Return Changes "
                "with new tensors instead"
            )

    def test_it_returns_the_same_changes_each_time(self, algorithm: str) -> None:
        for tried in self._tries(algorithm):
            assert _alike(tried.changes(), tried.changes()), (
                f"two runs of {algorithm!r} on the same data differ. Seed what is random"
            )

    def test_it_is_made_again_with_its_parameters(self, algorithm: str) -> None:
        known = self.subject().algorithms[algorithm]
        if known.make is None:
            assert not known.parameters, (
                f"{algorithm!r} has parameters, but no make. Pass make=, the function that returns "
                "the algorithm with other values, so that recipes can hold them"
            )
            return
        try:
            made = known.make(**known.parameters)
        except TypeError as error:
            raise AssertionError(f"make of {algorithm!r} rejects its parameters: {error}") from None
        differing = [name for name in DATA if getattr(made, name) != getattr(known, name)]
        assert not differing, (
            f"make of {algorithm!r} with its parameters returns an algorithm with other "
            f"{', '.join(differing)}. Return the same one that the hook does"
        )
        for tried in self._tries(algorithm):
            assert _alike(tried.changes(), tried.changes(made)), (
                f"make of {algorithm!r} with its parameters returns one with other changes. Make "
                "the registered one by the same function"
            )

    def test_it_leaves_scopes_in_float_alone(self, algorithm: str) -> None:
        for tried in self._tries(algorithm, in_float=True):
            names = {each.node for each in tried.changes()} & tried.candidate.kept
            assert not names, (
                f"{algorithm!r} changes {', '.join(sorted(names))}, which the user keeps in float. "
                "Skip the operators in candidate.kept"
            )

    def test_a_float_rewrite_changes_no_output(self, algorithm: str) -> None:
        for tried in self._tries(algorithm):
            if tried.algorithm.stage != "float":
                continue
            wanted = outputs_of(tried.candidate.reference, [tried.inputs])
            try:
                found = outputs_of(tried.written(), [tried.inputs])
            except AlgorithmError as error:
                raise SkipTest("see test_its_changes_can_be_written") from error
            for number, each in enumerate(compare_all(found, wanted)):
                assert not is_far(each, EXACT), (
                    f"output {number} is {each.sqnr:.1f} dB from the model's after the changes of "
                    f"{algorithm!r}. A rewrite of the stage 'float' must not change the outputs"
                )

    def _tries(self, name: str, *, in_float: bool = False) -> Iterator[_Try]:
        subject = self.subject()
        check_runs_here(subject.registry, subject.backend)
        for sample in subject.samples_of(name):
            config = None if in_float else "default"
            quantizer = RegistryQuantizer(
                subject.backend, config, registry=subject.registry, allow_float=True
            )
            tried = _Try(subject.algorithms[name], quantizer, sample)
            reason = tried.reason()
            assert in_float or reason is None, (
                f"{name!r} does not apply to its sample: {reason}. Use one that it is for"
            )
            if reason is None:
                yield tried


class _Try:
    """An algorithm on a calibrated sample."""

    def __init__(self, algorithm: Algorithm, quantizer: RegistryQuantizer, sample: Sample) -> None:
        program, self.inputs = exported(
            copy.deepcopy(sample.module).eval(), sample.inputs, sample.dynamic_shapes
        )
        prepared = prepare_checked(program, quantizer, self.inputs)
        collecting = Collecting(prepared, algorithm.statistics)
        feed(prepared, [self.inputs] * 2, lambda: None, lambda batch: collecting.run(*batch))
        self.algorithm = algorithm
        reference = float_graph(prepared)
        backend = quantizer.registry.backend(quantizer.backend).value
        self.candidate = Candidate(
            model=convert(prepared) if algorithm.stage == "converted" else prepared,
            reference=reference,
            decisions=tuple(quantizer.decisions),
            kept=quantizer.kept_in_float(reference),
            backend=backend,
            modes=quantizer.modes,
        )
        self.calibration = Calibration([self.inputs] * 2, collecting.collected.values)

    @property
    def graph(self) -> Any:
        return self.candidate.model.graph

    def reason(self) -> str | None:
        applies = self.algorithm.applies
        return None if applies is None else applies(self.candidate)

    def changes(self, made: Algorithm | None = None) -> list[Change]:
        """Return the changes of the algorithm, or of one that was made like it."""
        run = (made or self.algorithm).run
        try:
            found = list(run(self.candidate, self.calibration))
        except QregError:
            raise
        except Exception as cause:  # raised by a plugin
            raise AssertionError(f"{self.algorithm.name!r} raised {cause!r}") from cause
        strange = [each for each in found if not isinstance(each, Change)]
        assert not strange, f"{self.algorithm.name!r} returned {strange[0]!r} (expected a Change)"
        return found

    def written(self) -> GraphModule:
        """Return the changed graph; for stages that change the float model, the float graph."""
        stage = self.algorithm.stage
        model = self.candidate.reference if stage in REWRITES else self.candidate.model
        return write(copied(model), self.changes(), stage)


def _alike(one: list[Change], other: list[Change]) -> bool:
    first, second = (pytree.tree_leaves([asdict(each) for each in each_]) for each_ in (one, other))
    return len(first) == len(second) and all(map(_same, first, second))


def _same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return one == other
