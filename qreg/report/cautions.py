"""The cautions of a report: where quantization gains less than it seems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from qreg.utils.wording import percent, size, speed, than

if TYPE_CHECKING:
    from qreg.report.values import Operator, ReportData, Sizes


SHOWN = 3  # names of operators in a sentence


def cautions(report: ReportData) -> list[str]:
    """Return the sentences for the first lines of a report."""
    return [*_mostly_float(report), *_uncounted(report), *_slower(report), *_larger(report)]


def _mostly_float(report: ReportData) -> Iterator[str]:
    share = report.int8_share
    if share is not None and share < 0.5:
        yield (
            f"most of the work stays in float: {percent(1 - share)} of the multiply-accumulates, "
            f"in {some(_float_work(report))}"
        )


def _float_work(report: ReportData) -> list[str]:
    """Return the names of the operators in float with multiply-accumulates, the largest first."""
    left = {each.name: each.macs - each.int8_macs for each in report.operators}
    return sorted((name for name, macs in left.items() if macs), key=lambda name: -left[name])


def _uncounted(report: ReportData) -> Iterator[str]:
    """Yield one sentence for each reason; many nodes may share the same operator."""
    by_reason: dict[str, list[Operator]] = {}
    for each in report.uncounted:
        by_reason.setdefault(each.uncounted or "", []).append(each)
    for reason, operators in by_reason.items():
        names = some([each.name for each in operators])
        yield f"not counted among the multiply-accumulates: {names} ({reason})"


def _slower(report: ReportData) -> Iterator[str]:
    found = report.timing
    if found is not None and found.is_slower:
        ratio = than(speed(found.milliseconds, found.float_milliseconds), "float")
        yield "; ".join([f"the quantized program is {ratio}", *_to_blame(report)])


def _to_blame(report: ReportData) -> Iterator[str]:
    names = [name for split in report.splits for name in split.operators]
    if names:
        yield f"float operators that cost conversions: {some(names)}"
    share, left = report.int8_share, _float_work(report)
    if share is not None and share >= 0.5 and left:  # less is a caution already
        yield f"{percent(1 - share)} of the multiply-accumulates stay in float, in {some(left)}"


def _larger(report: ReportData) -> Iterator[str]:
    sizes = report.sizes
    if is_larger(sizes):
        assert sizes.program is not None
        ratio = than(size(sizes.program, sizes.float_parameters), "the float parameters")
        yield (
            f"the program ({sizes.program:,} bytes) is {ratio} ({sizes.float_parameters:,} bytes)"
        )


def is_larger(sizes: Sizes) -> bool:
    """Whether a program is larger than the float parameters."""
    return sizes.program is not None and sizes.program > sizes.float_parameters


def some(names: Sequence[str]) -> str:
    """Return the first names, and the number of further names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
