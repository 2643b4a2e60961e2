"""Rank the patterns of a model by what each costs its outputs, in each config it may have."""

from __future__ import annotations

import math
from collections.abc import Iterator

from attrs import evolve
from torch.fx import GraphModule

from qreg.analysis.sensitivity import sensitivity
from qreg.configs.named import made_config
from qreg.errors import QregError
from qreg.graph.provenance import origin
from qreg.pipeline.result import Result, report_of
from qreg.pipeline.run import Run
from qreg.pipeline.source import Data
from qreg.plugins.registry import Registry
from qreg.programs.lowering import target
from qreg.report.report import Report
from qreg.tuning.making import Subject
from qreg.tuning.patterns import Pattern, joined, patterns, power, with_guesses
from qreg.tuning.values import Place, Variant
from qreg.utils.progress import Stages


def ranked(subject: Subject, result: Result, variant: Variant) -> tuple[list[Pattern], list[str]]:
    """Return the quantized patterns of a program, and notes on what could not be measured.

    Each pattern has its noise in the config of the variant, and in the other configs of the backend
    that are more precise and quantize it. Patterns that read the same parameter are one.
    """
    report = report_of(result, sensitivity=True)
    others, notes = {}, list(report.notes)
    if not report.sensitivity:  # no output has a gradient: the noise of each operator is next best
        report = _by_own_noise(result)
    for name in finer(subject.registry, variant):
        try:
            others[name] = _noises(subject, Variant(variant.backend, name))
        except QregError as error:
            notes.append(f"config {name!r} was not tried: {error}")
    unknown = [each.name for each in report.operators if each.isolated_sqnr is None]
    found = with_guesses(patterns(report, others), unknown)
    return joined(found, _readers(result.reference)), notes


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
    """Yield configs of the backend that lose less than that of a variant, one of each kind.

    These are dynamic ones, which compute the range of each activation, and static ones with more
    bits in the activations.
    """
    mode, bits = _kind(registry, variant.backend, variant.config)
    seen = {(mode, bits)}
    for name in registry.configs(variant.backend):
        kind = _kind(registry, variant.backend, name)
        is_finer = (kind[0] == "dynamic" and mode == "static") or kind[1] > bits
        if kind[0] != "qat" and kind not in seen and is_finer:
            seen.add(kind)
            yield name


def _kind(registry: Registry, backend: str, name: str) -> tuple[str, int]:
    """Return the mode of a config, and the bits of its activations."""
    activation = made_config(registry, backend, name).input_activation
    bits = 32 if activation is None else activation.dtype.itemsize * 8
    return registry.config(backend, name).mode, bits


def _noises(subject: Subject, variant: Variant) -> dict[Place, float]:
    quantizer = subject.quantizer(variant).for_one_run()
    run = Run(quantizer, target(subject.registry, variant.backend), None, Stages(False))
    source = run.export(subject.program, subject.batches[0], None)
    graphs = run.quantize(source, Data(subject.batches, None))
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


def _readers(reference: GraphModule) -> list[set[str]]:
    """Return the operators that read each constant of a graph."""
    constants = (node for node in reference.graph.nodes if node.op == "get_attr")
    return [{str(origin(user)) for user in node.users} for node in constants]
