"""Rank the patterns of a model by what each costs its outputs, in each config it may have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from attrs import evolve, frozen
from torch.fx import GraphModule

from qreg.analysis.sensitivity import sensitivity
from qreg.errors import QregError
from qreg.graph.provenance import origin
from qreg.pipeline.result import Result, report_of
from qreg.pipeline.run import Run
from qreg.pipeline.source import Data
from qreg.plugins.registry import Registry
from qreg.programs.lowering import target
from qreg.report.report import Report
from qreg.tuning.kinds import Kind
from qreg.tuning.making import Subject
from qreg.tuning.patterns import Pattern, joined, patterns, power, with_guesses
from qreg.tuning.values import Place, Variant
from qreg.utils.progress import Stages

Noises: TypeAlias = Mapping[Place, float]


@frozen
class Base:
    """The report of a program with the sensitivity of its patterns, as plain data.

    ``readers`` are the operators that read each constant.
    """

    report: Report
    readers: tuple[frozenset[str], ...]


def base_of(result: Result) -> Base:
    """Measure the sensitivity of the patterns of a program."""
    report = report_of(result, sensitivity=True)
    if not report.sensitivity:  # no output has a gradient: the noise of each operator is next best
        report = evolve(_by_own_noise(result), notes=report.notes)
    return Base(report, _readers(result.reference))


def noises(subject: Subject, variant: Variant) -> Noises | str:
    """Return the noise powers in a config by the place of a pattern's first operator.

    The algorithms of the variant are tried: without them, outliers that they remove would count. A
    config that does not work for the model gives the reason.
    """
    try:
        return _noises(subject, variant)
    except QregError as error:
        return str(error)


def ranked(base: Base, others: Mapping[str, Noises | str]) -> tuple[list[Pattern], list[str]]:
    """Return the quantized patterns of a program, and notes on what could not be measured.

    Each pattern has its noise in the config of the program, and in ``others``, which are more
    precise, if they quantize it. Patterns that read the same parameter are one.
    """
    report = base.report
    known = {name: each for name, each in others.items() if not isinstance(each, str)}
    reasons = {name: each for name, each in others.items() if isinstance(each, str)}
    notes = [f"config {name!r} was not tried: {reason}" for name, reason in reasons.items()]
    unknown = [each.name for each in report.operators if each.isolated_sqnr is None]
    found = with_guesses(patterns(report, known), unknown)
    return joined(found, base.readers), [*report.notes, *notes]


def _by_own_noise(result: Result) -> Report:
    """Return a report whose sensitivity is what each operator adds to the noise of its inputs."""
    report = report_of(result, numerics=True)
    powers = {each.name: power(each.sqnr) for each in report.operators}
    operators = []
    for each in report.operators:
        inherited = max((powers.get(name, 0.0) for name in each.inputs), default=0.0)
        added = powers[each.name] - inherited
        sqnr = -10 * math.log10(added) if added > 0 else math.inf
        operators.append(evolve(each, isolated_sqnr=sqnr))
    return evolve(report, operators=tuple(operators))


def finer(registry: Registry, variant: Variant) -> Iterator[str]:
    """Yield configs of the backend that lose less than that of a variant, one of each kind."""
    own = Kind.of(registry, variant.backend, variant.config)
    seen = set[Kind]()
    for name in registry.configs(variant.backend):
        kind = Kind.of(registry, variant.backend, name)
        if kind not in seen and kind.is_finer(own):
            seen.add(kind)
            yield name


def _noises(subject: Subject, variant: Variant) -> dict[Place, float]:
    quantizer = subject.quantizer(variant).for_one_run()
    run = Run(quantizer, target(subject.registry, variant.backend), None, Stages(False))
    source = run.export(subject.program, subject.batches[0], None)
    graphs = run.quantize(source, Data(subject.batches, None), subject.selected(variant))
    decisions = {each.node: each for each in graphs.quantizer.decisions}
    measured = sensitivity(
        graphs.reference, graphs.converted, graphs.quantizer.decisions, graphs.samples
    )
    first = ((decisions[each.pattern[0]], each.sqnr) for each in measured)
    return {
        Place(one.module, one.operator, one.ordinal): power(sqnr)
        for one, sqnr in first
        if sqnr is not None
    }


def _readers(reference: GraphModule) -> tuple[frozenset[str], ...]:
    constants = (node for node in reference.graph.nodes if node.op == "get_attr")
    return tuple(frozenset(str(origin(user)) for user in node.users) for node in constants)
