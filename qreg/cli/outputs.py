"""What is measured for a report, and the forms in which a command prints and writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

import click
from attrs import asdict

from qreg.cli.options import FILE, FORMAT
from qreg.cli.remedies import as_options

if TYPE_CHECKING:
    from qreg.cli.metric import Compared
    from qreg.report.report import Report

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option("--numerics", is_flag=True, help="Measure the noise of each operator."),
    click.option(
        "--sensitivity", is_flag=True, help="Measure what each pattern alone costs the outputs."
    ),
    click.option(
        "--timing", is_flag=True, help="Lower the float model too, and time both programs."
    ),
    click.option("--profile", is_flag=True, help="Time each operator alone, in int8 and in float."),
    FORMAT,
    click.option("--html", type=FILE, help="Also write the report as a page to this file."),
    click.option(
        "--overlay", type=FILE, help="Also write node data for Model Explorer to this file."
    ),
    click.option(
        "--overlay-by",
        type=click.Choice(["place", "sqnr", "sensitivity"]),
        default="place",
        show_default=True,
        help="What the colours of the overlay show.",
    ),
)


class Measured(TypedDict):
    """What is measured for a report."""

    numerics: bool
    sensitivity: bool
    timing: bool
    profile: bool


class ReportOptions(Measured):
    """The arguments of a command that prints a report."""

    as_json: bool
    html: Path | None
    overlay: Path | None
    overlay_by: Literal["place", "sqnr", "sensitivity"]


def report_options(command: Command) -> Command:
    """Add the arguments in :class:`ReportOptions` to a command."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def measured(given: ReportOptions) -> Measured:
    """Return what a command measures for its report."""
    return {
        "numerics": given["numerics"],
        "sensitivity": given["sensitivity"],
        "timing": given["timing"],
        "profile": given["profile"],
    }


def files(given: ReportOptions) -> list[Path]:
    """Return the files that the report is written to.

    Raises ``InputError`` for an overlay of noise that is not measured.
    """
    from qreg.errors import InputError

    needed = {"sqnr": "numerics", "sensitivity": "sensitivity"}.get(given["overlay_by"])
    if needed and not given[needed]:  # type: ignore[literal-required]
        raise InputError(
            f"--overlay-by {given['overlay_by']}: it is not measured (expected --{needed}). "
            f"Pass --{needed}."
        )
    return [each for each in (given["html"], given["overlay"]) if each]


def put(
    report: Report,
    given: ReportOptions,
    metric: Compared | None = None,
    *,
    operators: bool = True,
) -> None:
    """Write the report to its files, and print it, with a metric if one was evaluated.

    ``operators`` adds the table of all operators.
    """
    from qreg.report.text import print_report

    if given["html"]:
        report.save_html(given["html"])
    if given["overlay"]:
        report.save_overlay(given["overlay"], given["overlay_by"])
    if given["as_json"]:
        added = {} if metric is None else {"metric": asdict(metric)}
        click.echo(json.dumps(report.as_dict() | added, indent=2))
        return
    print_report(report, operators=operators, reworded=as_options)
    if metric:
        click.echo(metric)
