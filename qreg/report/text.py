"""The report for a terminal: the most important lines first, then a table of operators."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from qreg.report.cautions import SHOWN, cautions, is_larger, some
from qreg.report.next_steps import next_steps, preamble
from qreg.report.rows import block_rows, decibels, operator_rows, part_rows, reason_rows
from qreg.utils.tables import WIDE, Row, console, table
from qreg.utils.wording import counted, percent, size, speed, than
from qreg.verification.verdict import remedy, shortfall

if TYPE_CHECKING:
    from qreg.algorithms.outcome import Outcome
    from qreg.analysis.audit import Split
    from qreg.analysis.ranges import Range
    from qreg.plugins.types.program import Conversion
    from qreg.report.values import Provenance, ReportData
    from qreg.verification.metrics import OutputComparison
    from qreg.verification.verify import Verification


POOR = "FAR FROM FLOAT"
MOST = 10  # sensitive patterns in the table
SHORT = 12  # digits of a hash


def text(report: ReportData) -> str:
    """Return the report as plain text."""
    plain = Console(width=WIDE, color_system=None)
    with plain.capture() as captured:
        print_report(report, plain)
    return captured.get().rstrip("\n")


def print_report(
    report: ReportData,
    to: Console | None = None,
    *,
    operators: bool = True,
    reworded: Callable[[str], str] = str,
) -> None:
    """Print the summary and, if ``operators``, the table of operators, the noisiest first.

    ``reworded`` adapts each line of the summary, for example to the command line.
    """
    to = to or console()
    for line in headlines(report):
        to.print(reworded(line), markup=False, highlight=False, soft_wrap=True)
    for title, rows in (
        ("What to do next, by what it brings", step_rows(report, reworded)),
        ("Most sensitive patterns, each quantized alone", sensitivity_rows(report)),
        ("Algorithms, judged on batches that were held back", algorithm_rows(report.algorithms)),
        ("Operators by place and reason", reason_rows(report.operators)),
        ("Float operators that split int8 ones", split_rows(report.splits)),
        ("Conversions that belong to no border", conversion_rows(report.leftover)),
        ("Ranges that use few quantized values", range_rows(report.ranges)),
        ("Repeated blocks", block_rows(report)),
        ("Size of weights and other constants by part", part_rows(report)),
        ("Outputs of the program", output_rows(report.verification)),
        (_order(report), operator_rows(report) if operators else []),
    ):
        if rows:
            to.print(f"\n{title}", style="bold", highlight=False)
            to.print(table(rows))


def _order(report: ReportData) -> str:
    return "Operators, the noisiest first" if report.worst else "Operators"


def headlines(report: ReportData) -> Iterator[str]:
    """Yield the summary, one sentence per line, with the verdict on a poor program first."""
    yield from _poor(report)
    yield f"{report.model} for {report.backend}: {', '.join(report.configs) or 'no config'}"
    yield from cautions(report)
    count = len(report.operators)
    types = " and ".join(report.precisions)
    yield f"{report.counts['int8']} of {count} operators in {types}{_macs(report)}"
    yield from _sizes(report)
    if report.delegates is not None:
        yield f"delegates: {report.delegates}, not delegated: {_outside(report)}"
        yield _verified(report)
    yield from _improved(report.algorithms)
    if report.timing:
        yield _timing(report)
    yield from _sensitive(report)
    yield from _slower(report)
    yield from report.notes
    if report.provenance:
        yield _made_with(report.provenance)
    if report.defects:
        yield (
            f"DEFECTS: decided for int8, but not run in it: {', '.join(report.defects)}. "
            "Report them to the distribution of their annotator."
        )


def asides(report: ReportData) -> Iterator[str]:
    """Yield the sentences of the summary that are not numbers of a single kind."""
    yield from _improved(report.algorithms)
    yield from _slower(report)
    yield from report.notes


def _made_with(made: Provenance) -> str:
    """Return what a program was made with, with the first digits of hashes."""
    parts = [" ".join(pair) for pair in made.versions.items()]
    parts += [made.processor, *(f"{name}={value}" for name, value in made.options.items())]
    if made.data_sha256:
        batches = "batch" if made.batches == 1 else "batches"
        parts.append(f"{made.batches} calibration {batches} {made.data_sha256[:SHORT]}")
    if made.recipe_sha256:
        parts.append(f"recipe {made.recipe_sha256[:SHORT]}")
    return f"made with {', '.join(parts)}"


def _macs(report: ReportData) -> str:
    share = report.int8_share
    if share is None:
        return ""
    counted = "counted multiply-accumulates" if report.uncounted else "multiply-accumulates"
    either = any(each.operator == "cond" and each.macs for each in report.operators)
    branch = " (of a cond, those of the larger branch)" if either else ""
    return f", {percent(share)} of the {counted}{branch}"


def _sizes(report: ReportData) -> Iterator[str]:
    """Yield the sizes, unless the program is larger than the parameters: a caution reports that."""
    sizes = report.sizes
    parameters = f"float parameters {sizes.float_parameters:,} bytes"
    if sizes.program is None:
        yield f"{parameters}, no program was made"
    elif not is_larger(sizes):
        yield f"{parameters}, program {sizes.program:,} bytes: {program_size(report)}"


def program_size(report: ReportData) -> str:
    """Return the size of the program compared with the float parameters."""
    compared = size(report.sizes.program or 0, report.sizes.float_parameters)
    return than(compared, "the float parameters")


def _outside(report: ReportData) -> str:
    counted = Counter(report.outside).most_common()
    return ", ".join(f"{count} x {name}" for name, count in counted) or "none"


def _verified(report: ReportData) -> str:
    found = report.verification
    if found is None:
        return report.unverified
    return verified_line(found)


def verified_line(found: Verification, reference: str = "float") -> str:
    """Return a sentence on where a program ran, and the result of its verification."""
    ran = f"loaded in {found.runtime}, ran {counted(found.samples, 'input')}"
    if not found.good:
        return f"{ran}; far from {reference}"
    return f"verified: {ran}{_worst(found.worst_sqnr, reference)}"


def _worst(sqnr: float | None, reference: str) -> str:
    if sqnr is None:
        return ""
    return f", {sqnr:.1f} dB to {reference} at worst" if sqnr < math.inf else f", as {reference}"


def _poor(report: ReportData) -> Iterator[str]:
    found = report.verification
    if found and not found.good:
        yield f"{POOR}: {shortfall(found)}. {remedy(found, tried=bool(report.algorithms))}"


def _improved(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield a sentence on the algorithms that were kept, if any was tried."""
    tried = [each for each in outcomes if each.before is not None and each.after is not None]
    kept = [each for each in tried if each.kept]
    if kept:
        gain = f"from {decibels(kept[0].before or 0.0)} to {decibels(kept[-1].after or 0.0)}"
        names = ", ".join(each.algorithm for each in kept)
        yield f"algorithms: {names} improve the outputs on batches held back {gain}"
    elif tried:
        yield "algorithms: none of those tried improves the outputs, so the program has none"


def _sensitive(report: ReportData) -> Iterator[str]:
    """Yield the patterns that cost most, if it was measured."""
    found = [each for each in report.sensitivity[:SHOWN] if each.share]
    if found:
        named = ", ".join(f"{each.pattern[0]} {decibels(each.sqnr)}" for each in found)
        yield f"most sensitive, by the outputs' SQNR with the pattern quantized alone: {named}"


def _timing(report: ReportData) -> str:
    """Return the latencies; without the ratio for a slower program, which a caution reports."""
    found = report.timing
    assert found is not None
    ratio = f": {than(speed(found.milliseconds, found.float_milliseconds), 'float')}"
    return (
        f"latency: float {found.float_milliseconds:.3f} ms, quantized {found.milliseconds:.3f} ms"
        f"{'' if found.is_slower else ratio} (the fastest tenth of {found.rounds} rounds in turns)"
    )


def _slower(report: ReportData) -> Iterator[str]:
    """Yield the operators that are slower in int8 than in float, if operators were timed."""
    names = [each.name for each in report.slower]
    if names:
        lost = sum((o.microseconds or 0) - (o.float_microseconds or 0) for o in report.slower)
        yield f"slower in int8 than in float, by {lost:.0f} us in all: {some(names)}"


def algorithm_rows(outcomes: Iterable[Outcome]) -> list[Row]:
    """Return each algorithm that was tried, and the SQNR of the outputs without and with it."""
    return [
        {
            "algorithm": each.algorithm,
            "kept": "yes" if each.kept else "no",
            "without": "" if each.before is None else decibels(each.before),
            "with": "" if each.after is None else decibels(each.after),
            "operators": len(each.operators) or "",
            "took": f"{each.seconds:.1f} s",
            "why": each.reason,
        }
        for each in outcomes
    ]


def step_rows(report: ReportData, reworded: Callable[[str], str] = str) -> list[Row]:
    """Return the next steps, ahead of them the line that makes the quantizer they change."""
    first = preamble(report)
    made = [{"code": first, "brings": "", "why": ""}] if first else []
    steps = [
        {"code": reworded(each.code), "brings": each.brings, "why": each.why}
        for each in next_steps(report)
    ]
    return [*made, *steps]


def sensitivity_rows(report: ReportData) -> list[Row]:
    """Return the most sensitive patterns, the largest drop first."""
    return [
        {
            "pattern": some(each.pattern),
            "module": each.module,
            "drop": "" if math.isinf(each.drop) else f"{each.drop:.2f} dB",
            "of the noise": percent(each.share),
            "outputs alone": decibels(each.sqnr),
        }
        for each in report.sensitivity[:MOST]
        if each.share
    ]


def split_rows(splits: Iterable[Split]) -> list[Row]:
    return [
        {
            "float": some(each.operators),
            "int8 producers": some(each.producers),
            "int8 consumers": some(each.consumers),
        }
        for each in splits
    ]


def conversion_rows(conversions: Iterable[Conversion]) -> list[Row]:
    return [
        {
            "conversion": each.kind,
            "runs": "outside" if each.delegate is None else f"delegate {each.delegate}",
            "producers": ", ".join(each.producers),
            "consumers": ", ".join(each.consumers),
        }
        for each in conversions
    ]


def range_rows(ranges: Iterable[Range]) -> list[Row]:
    return [
        {
            "tensor": each.node,
            "concern": each.concern,
            "from": f"{each.low:.3g}",
            "to": f"{each.high:.3g}",
            "channels": f"{each.concerned} of {each.channels}",
            "values": "" if each.values is None else str(each.values),
            "eps": f"{each.eps:.3g}",
        }
        for each in ranges
    ]


def output_rows(found: Verification | None, reference: str = "float") -> list[Row]:
    """Return each output of the program against its reference and the converted model."""
    if found is None:
        return []
    references = ((reference, found.to_float), ("converted", found.to_converted))
    return [
        _output_row(number, name, each)
        for name, outputs in references
        for number, each in enumerate(outputs)
    ]


def _output_row(number: int, reference: str, found: OutputComparison) -> Row:
    return {
        "output": number,
        "against": reference,
        "SQNR": decibels(found.sqnr),
        "worst slice": _slice(found),
        "largest difference": f"{found.max_difference:.3g}",
        "mean difference": f"{found.mean_difference:.3g}",
        "cosine": f"{found.cosine:.5f}",
        "same class": "" if found.agreement is None else percent(found.agreement),
    }


def _slice(found: OutputComparison) -> str:
    part = found.worst_slice
    if part is None or math.isinf(found.sqnr):
        return ""
    return f"{part.sqnr:.1f} dB, {part.index} of axis {part.axis}"
