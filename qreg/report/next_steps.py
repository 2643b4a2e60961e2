"""What to do next: lines of code, ranked by what they bring as far as it was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import frozen

from qreg.utils.wording import percent
from qreg.verification.remedies import is_in

if TYPE_CHECKING:
    from qreg.report.values import Operator, ReportData

MOST = 3  # patterns to keep in float for accuracy, and as many for speed
LEAST = 0.5  # dB that the outputs gain; less is not worth float operators
SHARE = 0.05  # of the time of all operators, which one must lose to be worth conversions around it


@frozen
class NextStep:
    """A line of Python that makes a program better, or measures how.

    ``decibels`` is what the SQNR of the outputs gains in dB, as far as the noises of patterns add
    up. ``microseconds`` is what the latency gains at most, without the conversions around float
    operators. None for what was not measured.
    """

    code: str
    why: str
    decibels: float | None = None
    microseconds: float | None = None

    @property
    def brings(self) -> str:
        """What the step brings, in words."""
        if self.microseconds is not None:
            return f"at most {self.microseconds:.0f} us"
        if self.decibels is None:
            return "not known yet"
        return "all of the noise" if math.isinf(self.decibels) else f"about {self.decibels:.1f} dB"


def next_steps(report: ReportData) -> tuple[NextStep, ...]:
    """Return the steps, the one that brings most first.

    For a program that is far from float, steps for its accuracy come ahead of those for its speed;
    otherwise it is the reverse. Steps whose gain is not known come last.
    """
    accurate = sorted(_accurate(report), key=lambda each: -(each.decibels or 0.0))
    fast = list(_fast(report))
    found = report.verification
    is_poor = found is not None and not found.good
    ranked = [*accurate, *fast] if is_poor else [*fast, *accurate]
    return (*ranked, *_unknown(report, is_poor))


def preamble(report: ReportData) -> str:
    """Return the line that makes the quantizer that steps change; empty if none does."""
    if not any(each.code.startswith("quantizer.") for each in next_steps(report)):
        return ""
    named = [each for each in report.configs if each != "custom"]
    config = f", {_text(named[0])}" if len(report.configs) == len(named) == 1 else ""
    return f"quantizer = qreg.get_quantizer({_text(report.backend)}{config})"


def _accurate(report: ReportData) -> Iterator[NextStep]:
    """Yield what keeps the patterns in float that cost the outputs most."""
    operators = {each.name: each for each in report.operators}
    measured = [each for each in report.sensitivity if each.drop >= LEAST][:MOST]
    for each in measured:
        first = operators[each.pattern[0]]
        if first.quantized and first.ordinal >= 0:
            why = f"{first.name} causes {percent(each.share)} of the noise of all patterns"
            yield NextStep(_in_float(first, report), f"{why}{_work(first, report)}", each.drop)
    for drop in report.verification.drops if report.verification and not measured else ():
        why = f"the SQNR drops most at {drop.node}"
        gain = min(drop.before, 100.0) - drop.after
        yield NextStep(f"quantizer.{drop.keep}", why, gain)


def _fast(report: ReportData) -> Iterator[NextStep]:
    """Yield what keeps the operators in float that are slower in int8."""
    whole = sum(each.microseconds or 0.0 for each in report.operators)
    for each in report.slower[:MOST]:
        lost = (each.microseconds or 0.0) - (each.float_microseconds or 0.0)
        if each.ordinal >= 0 and lost >= SHARE * whole:
            why = f"{each.name} is slower in int8, not counting conversions around it"
            yield NextStep(_in_float(each, report), why, microseconds=lost)


def _unknown(report: ReportData, is_poor: bool) -> Iterator[NextStep]:
    backend = f"backend={_text(report.backend)}, calibration=batches"
    if report.delegates is None:
        code = f"qreg.quantize(model, example_inputs, {backend})"
        yield NextStep(code, "no program was made: these are decisions alone")
        return
    if is_poor and not report.algorithms:
        code = f'qreg.quantize(model, example_inputs, {backend}, algorithms="auto")'
        yield NextStep(code, "algorithms may bring the program closer to float")
    if missing := list(_unmeasured(report)):
        asked = ", ".join(f"{name}=True" for name, _ in missing)
        code = f"qreg.explain(model, example_inputs, {backend}, {asked})"
        yield NextStep(code, f"it measures {' and '.join(what for _, what in missing)}")


def _unmeasured(report: ReportData) -> Iterator[tuple[str, str]]:
    if not report.sensitivity and report.counts["int8"]:
        yield "sensitivity", "what each pattern costs the outputs"
    if report.timing is None and report.runs_here:
        yield "timing", "the latency"
    if report.timing and report.timing.is_slower and not _is_profiled(report):
        yield "profile", "which operators are slow"


def _is_profiled(report: ReportData) -> bool:
    return any(each.microseconds is not None for each in report.operators)


def _in_float(first: Operator, report: ReportData) -> str:
    """Return the call that keeps a pattern in float: by its module if that has nothing else."""
    pattern = {first.name, *first.pattern}
    quantized = (each for each in report.operators if each.quantized)
    inside = {each.name for each in quantized if is_in(each.module, first.module)}
    if first.module and inside <= pattern:
        return f"quantizer.set_module_name({_text(first.module)}, None)"
    address = f"{_text(first.module)}, {_text(first.operator)}, {first.ordinal}"
    return f"quantizer.set_operator({address}, None)"


def _work(first: Operator, report: ReportData) -> str:
    names = {first.name, *first.pattern}
    macs = sum(each.macs for each in report.operators if each.name in names)
    return f", and does {percent(macs / report.macs)} of the work" if macs else ""


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
