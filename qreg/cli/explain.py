"""``qreg explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from qreg.cli.job import check_outputs, followed_recipe, recipe_job, resolve_job
from qreg.cli.options import FILE, FORMAT, RECIPE, job_options
from qreg.cli.remedies import as_options
from qreg.cli.reporting import judging, reports_errors

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from qreg.cli.options import JobOptions


@click.command()
@job_options
@RECIPE
@click.option("--numerics", is_flag=True, help="Measure the noise of each operator.")
@click.option(
    "--sensitivity", is_flag=True, help="Measure what each pattern alone costs the outputs."
)
@click.option("--timing", is_flag=True, help="Lower the float model too, and time both programs.")
@click.option("--profile", is_flag=True, help="Time each operator alone, in int8 and in float.")
@FORMAT
@click.option("--html", type=FILE, help="Also write the report as a page to this file.")
@click.option("--overlay", type=FILE, help="Also write node data for Model Explorer to this file.")
@click.option(
    "--overlay-by",
    type=click.Choice(["place", "sqnr", "sensitivity"]),
    default="place",
    show_default=True,
    help="What the colours of the overlay show.",
)
@reports_errors
def explain(
    recipe: Path | None,
    numerics: bool,
    sensitivity: bool,
    timing: bool,
    profile: bool,
    as_json: bool,
    html: Path | None,
    overlay: Path | None,
    overlay_by: Literal["place", "sqnr", "sensitivity"],
    **given: Unpack[JobOptions],
) -> None:
    """Report what happens to each operator of MODEL and why.

    Without --calibration nothing is lowered, and the report has the decisions only, unless --recipe
    names one with the values of a calibration.
    """
    outputs = [each for each in (html, overlay) if each]
    if recipe:
        check_outputs(outputs, recipe)
        job = recipe_job(given, followed_recipe(recipe, given), outputs)
    else:
        job = resolve_job(given, outputs)

    import qreg
    from qreg.report.text import print_report

    with judging(given["strict"]):
        report = qreg.explain(
            job.program,
            numerics=numerics,
            sensitivity=sensitivity,
            timing=timing,
            profile=profile,
            **job.arguments,
        )
    if html:
        report.save_html(html)
    if overlay:
        report.save_overlay(overlay, overlay_by)
    if as_json:
        click.echo(report.to_json())
    else:
        print_report(report, reworded=as_options)
