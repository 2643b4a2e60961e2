"""Tests of each annotator: it applies, annotates only its match, and its operators run in int8."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from unittest import SkipTest

from torch.fx import GraphModule

from qreg.analysis.audit import Placement
from qreg.errors import AnnotatorError, QregError, UnknownOperatorWarning
from qreg.graph.compat import annotation_of
from qreg.plugins.operator_names import operator_name
from qreg.plugins.types.backend import SupportedConfig
from qreg.plugins.types.decision import Decision
from qreg.programs.copying import module_of
from qreg.quantizer.annotation_pass import AnnotatorWarning, annotate_with
from qreg.quantizer.registry_quantizer import Config, RegistryQuantizer
from qreg.testing.graphs import Annotated, annotated, described, graph_of, structure
from qreg.testing.odd import find_operator, odd_calls, odd_models, variants
from qreg.testing.running import Outcome, check_runs_here, outcome
from qreg.testing.subject import Sample, Subject
from qreg.testing.suite import Suite
from qreg.testing.together import shared_outcome

TRESPASS = ("it annotates", "it wrote")  # the beginnings of the host's messages about a trespass


class AnnotatorTests(Suite):
    """Each test is run for each annotator, on each of its samples with each of their configs."""

    def test_its_targets_name_operators(self, annotator: str) -> None:
        for target in self.subject().annotators[annotator].targets:
            assert find_operator(target) is not None, (
                f"the target {target!r} is not an overload of an operator, so it is never found. "
                'Write it as torch prints it, "aten.add.Tensor"; if a package registers it, import '
                "the package"
            )
            assert operator_name(target) == target, (
                f"the target {target!r} is an in-place operator, which is looked up as "
                f"{operator_name(target)!r}: write that name"
            )

    def test_it_applies_to_its_sample(self, annotator: str) -> None:
        for sample, config in self._cases(annotator):
            try:
                found = self._annotated(sample, config.name)
            except AnnotatorError as error:
                if error.problem.startswith(TRESPASS):
                    raise SkipTest("see test_it_touches_only_its_match") from error
                raise AssertionError(
                    f"with the config {config.name!r} on its own sample: {error.problem}. "
                    f"{error.annotator!r} must return a Match or None from its match, a reason or "
                    "None from its rules, and a list of Annotations or a Refusal from its annotate"
                ) from error
            assert _by(annotator, found.decisions), (
                f"{annotator!r} has no decision on its sample with the config "
                f"{config.name!r}. Correct the annotator or the sample, or if another annotator "
                f"claims the operator, order this one first with before=[...]:\n{found}"
            )

    def test_it_touches_only_its_match(self, annotator: str) -> None:
        alone = self.subject().annotators[annotator]
        for sample, config in self._cases(annotator):
            value = config.factory()
            # Also alone: annotations of others would hide what it writes to their nodes.
            for annotate in (
                self._quantizer(config.name).annotate,
                partial(annotate_with, (alone,), config=value),
            ):
                graph_module = _graph(sample, config.mode == "qat")
                graph_module = self._quantizer(config.name).transform_for_annotation(graph_module)
                _check_keeps_to_match(annotator, annotate, graph_module)

    def test_it_annotates_alike_each_time(self, annotator: str) -> None:
        for sample, config in self._cases(annotator):
            first, second = (described(self._applied(annotator, sample, config)) for _ in range(2))
            differing = [
                name for name in {**first, **second} if first.get(name) != second.get(name)
            ]
            assert not differing, (
                f"two copies of one graph are annotated differently at {', '.join(differing)} "
                f"with the config {config.name!r}. What {annotator!r} does may depend on the match "
                "and the config only: keep no state between calls"
            )

    def test_annotating_again_adds_nothing(self, annotator: str) -> None:
        for sample, config in self._cases(annotator):
            graph_module = self._applied(annotator, sample, config)
            first = described(graph_module)
            second = described(self._quantizer(config.name).annotate(graph_module))
            added = [name for name in second if first.get(name) != second[name]]
            assert not added, (
                f"a second pass over an annotated graph annotates {', '.join(added)} as well. "
                f"A match of {annotator!r} may not depend on annotations: decide in annotate, "
                "which is called in the order of the graph"
            )

    def test_it_leaves_float_what_is_opted_out(self, annotator: str) -> None:
        targets = self.subject().annotators[annotator].targets
        for sample, config in self._cases(annotator):
            opted_out = self._quantizer(None)
            for target in filter(find_operator, targets):
                opted_out.set_operator_type(target, None)
            try:
                with warnings.catch_warnings():  # a sample need not have every target
                    warnings.simplefilter("ignore", UnknownOperatorWarning)
                    found = self._annotated(sample, None, opted_out, train=config.mode == "qat")
            except AnnotatorError as error:
                raise SkipTest("see test_it_touches_only_its_match") from error
            taken = [n.name for n in found.graph_module.graph.nodes if annotation_of(n)]
            assert not taken, (
                f"{', '.join(taken)} are annotated though everything was opted out. Do not "
                "write annotations in match or in a transform: return them from annotate"
            )

    def test_it_survives_odd_graphs(self, annotator: str) -> None:
        for sample, config in self._cases(annotator):
            self._applied(annotator, sample, config)
        for config in self.subject().configs_for(self.subject().annotators[annotator]):
            problems = [*self._odd_calls(annotator, config), *self._odd_models(annotator, config)]
            assert not problems, (
                f"{problems[0]}. Return None from match where the pattern does not fit, and a "
                f"reason from a rule where it is not supported ({len(problems)} such graphs)"
            )

    def test_it_runs_in_int8(self, annotator: str) -> None:
        check_runs_here(self.subject().registry, self.subject().backend)
        for sample, config in self._cases(annotator):
            self._applied(annotator, sample, config)
            shared = shared_outcome(self.subject(), sample, config)
            if shared is None or not _runs_in_int8(annotator, shared):
                _check_int8(annotator, config, self._outcome(annotator, sample, config))

    def _cases(self, annotator: str) -> Iterator[tuple[Sample, SupportedConfig]]:
        if not self.subject().samples_of(annotator):
            raise SkipTest("it has no sample: see test_everything_has_a_sample")
        return self.subject().cases(annotator)

    def _quantizer(self, config: Config) -> RegistryQuantizer:
        registry = self.subject().strict_registry
        return RegistryQuantizer(self.subject().backend, config, registry=registry)

    def _annotated(
        self,
        sample: Sample,
        config: Config,
        quantizer: RegistryQuantizer | None = None,
        train: bool = False,
    ) -> Annotated:
        quantizer = quantizer or self._quantizer(config)
        return annotated(_graph(sample, train or "qat" in quantizer.modes), quantizer)

    def _applied(self, annotator: str, sample: Sample, config: SupportedConfig) -> GraphModule:
        """Return the annotated graph of a sample; skip the test if the annotator does not apply."""
        try:
            found = self._annotated(sample, config.name)
        except AnnotatorError as error:
            raise SkipTest("it fails: see test_it_applies_to_its_sample") from error
        if not _by(annotator, found.decisions):
            raise SkipTest("it does not apply: see test_it_applies_to_its_sample")
        return found.graph_module

    def _odd_calls(self, annotator: str, config: SupportedConfig) -> Iterator[str]:
        asked = self.subject().annotators[annotator]
        value = config.factory()
        for target in filter(find_operator, asked.targets):
            for what, graph_module in odd_calls(target):
                try:
                    annotate_with((asked,), graph_module, value)
                except AnnotatorError as error:
                    if not error.problem.startswith(TRESPASS):
                        yield f"{annotator!r} fails on {what}: {error.problem}"

    def _odd_models(self, annotator: str, config: SupportedConfig) -> Iterator[str]:
        subject = self.subject()
        found = [*_said_on_odd_models(subject, config.name)]
        for sample in subject.samples_of(annotator):
            for what, graph_module in variants(sample):
                found += ((what, said) for said in _said(subject, config.name, graph_module))
        for what, said in found:
            if said.startswith(f"annotator {annotator!r} ") and not _is_trespass(said):
                yield f"on {what}, {said}"

    def _outcome(self, annotator: str, sample: Sample, config: SupportedConfig) -> Outcome:
        try:
            return outcome(self.subject().registry, self.subject().backend, sample, config)
        except QregError as error:
            raise AssertionError(
                f"the sample of {annotator!r} cannot be lowered with the config {config.name!r}: "
                f"{error} If the backend does not support it, reject it with a rule"
            ) from error


@cache  # what all annotators say
def _said_on_odd_models(subject: Subject, config: str) -> list[tuple[str, str]]:
    """Return the warnings of the annotators of a backend on each odd model."""
    return [
        (what, said)
        for what, program in odd_models().items()
        for said in _said(subject, config, module_of(program))
    ]


def _said(subject: Subject, config: str, graph_module: GraphModule) -> list[str]:
    quantizer = RegistryQuantizer(subject.backend, config, registry=subject.registry)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AnnotatorWarning)
        quantizer.annotate(graph_module)
    return [str(warning.message) for warning in caught]


def _is_trespass(said: str) -> bool:
    return any(f": {beginning}" in said for beginning in TRESPASS)


def _graph(sample: Sample, train: bool) -> GraphModule:
    return copy.deepcopy(_exported(sample, train))


@cache  # pytest runs a test for all samples, and then the next test
def _exported(sample: Sample, train: bool) -> GraphModule:
    shapes = sample.dynamic_shapes
    return graph_of(sample.module, sample.inputs, train=train, dynamic_shapes=shapes)


def _check_keeps_to_match(
    annotator: str, annotate: Callable[[GraphModule], object], graph_module: GraphModule
) -> None:
    before = structure(graph_module)
    try:
        annotate(graph_module)
    except AnnotatorError as error:
        if error.problem.startswith(TRESPASS):
            raise AssertionError(
                f"{error.annotator!r}: {error.problem}. Return Annotations of Match.nodes only, "
                "with specs for their own inputs; the host writes them"
            ) from error
    changed = [line for line in structure(graph_module) if line not in before]
    assert structure(graph_module) == before, (
        f"the graph was changed by {annotator!r}: {'; '.join(changed)}. match, rules and "
        "annotate must not modify it; a rewrite belongs in the transforms of a Backend"
    )


def _by(annotator: str, decisions: tuple[Decision, ...]) -> list[Decision]:
    return [each for each in decisions if each.annotator == annotator and each.quantized]


def _runs_in_int8(annotator: str, found: Outcome) -> bool:
    """Whether ``_check_int8`` passes; if not, the sample is lowered alone, and then checked."""
    if found.audit is None:
        return False
    decided = _by(annotator, tuple(found.decisions))
    places = {found.audit.placements[each.node].place for each in decided}
    return "int8" in places and places <= {"int8", "gone"}


def _check_int8(annotator: str, config: SupportedConfig, found: Outcome) -> None:
    """Assert that the program runs the operators of the annotator in int8."""
    if found.audit is None:
        raise SkipTest("the format of the backend cannot be read back")
    decided = _by(annotator, tuple(found.decisions))
    places = [found.audit.placements[each.node] for each in decided]
    for decision, place in zip(decided, places, strict=True):
        assert place.place in ("int8", "gone"), (
            f"{annotator!r} decides for int8 at {decision.node} ({decision.operator}) with the "
            f"config {config.name!r}, but the program runs it {_described(place)}. Reject such a "
            "match with a rule, or correct what annotate returns"
        )
    assert any(place.place == "int8" for place in places), (
        f"nothing that {annotator!r} decided on is in the program. If the sample does compute it, "
        "the lowering must give each LoweredOperator its origin (qreg.graph.provenance.origin)"
    )


def _described(place: Placement) -> str:
    where = "outside the delegates" if place.place == "outside" else "in float"
    return f"{where}, as {place.operator} ({place.types})"
