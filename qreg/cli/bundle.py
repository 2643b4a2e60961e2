"""``qreg bundle``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from qreg.cli.job import check_outputs
from qreg.cli.options import FILE, FORMAT, STRICT
from qreg.cli.remedies import as_options
from qreg.cli.reporting import current_registry, judging, reports_errors
from qreg.cli.verify import print_verification


@click.command()
@click.argument("folder", type=FILE)
@click.option("--verify", is_flag=True, help="Run the program on the data in the bundle instead.")
@STRICT
@FORMAT
@click.option("--html", type=FILE, help="Also write the report as a page to this file.")
@click.option("-o", "--output", type=FILE, help="Also write the program to this file.")
@reports_errors
def bundle(
    folder: Path, verify: bool, strict: bool, as_json: bool, html: Path | None, output: Path | None
) -> None:
    """Print the report of a bundle, which needs neither the model nor the backend.

    FOLDER is what `qreg quantize --bundle` or result.save_bundle wrote.
    """
    check_outputs([each for each in (html, output) if each])

    import qreg
    from qreg.report.text import print_report

    found = qreg.load(folder, registry=current_registry())
    if html:
        found.report.save_html(html)
    if output:
        found.save(output)
    if verify:
        with judging(strict):
            print_verification(found.verify(), as_json)
    elif as_json:
        click.echo(json.dumps(found.report.as_dict(), indent=2))
    else:
        print_report(found.report, reworded=as_options)
