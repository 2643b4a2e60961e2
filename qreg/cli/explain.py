"""``qreg explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from qreg.cli.job import check_outputs, followed_recipe, recipe_job, resolve_job
from qreg.cli.options import RECIPE, JobOptions, job_options
from qreg.cli.outputs import ReportOptions, files, measured, put, report_options
from qreg.cli.reporting import judging, reports_errors

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Options(JobOptions, ReportOptions):
    """The arguments that are not of this command alone."""


@click.command()
@job_options
@RECIPE
@report_options
@reports_errors
def explain(recipe: Path | None, **given: Unpack[Options]) -> None:
    """Report what happens to each operator of MODEL and why.

    Without --calibration nothing is lowered, and the report has the decisions only, unless --recipe
    names one with the values of a calibration.
    """
    outputs = files(given)
    if recipe:
        check_outputs(outputs, recipe)
        job = recipe_job(given, followed_recipe(recipe, given), outputs)
    else:
        job = resolve_job(given, outputs)

    import qreg

    with judging(given["strict"]):
        report = qreg.explain(
            job.inputs.model, job.inputs.example, **measured(given), **job.arguments
        )
    put(report, given)
