"""``qreg compare``."""

from __future__ import annotations

from pathlib import Path

import click

from qreg.cli.job import check_decibels, check_outputs, least_sqnr
from qreg.cli.options import FILE, FORMAT, KEPT, MAX_BATCHES, MIN_SQNR, NAMES, STRICT
from qreg.cli.remedies import as_options
from qreg.cli.reporting import current_registry, reports_errors
from qreg.utils.logging import quiet_imports


@click.command()
@click.argument("model", type=FILE)
@click.option("--calibration", type=FILE, required=True, help="A torch.save'd list of batches.")
@click.option("--backends", required=True, help="Which to compare.", **NAMES)
@click.option(
    "--config", "configs", multiple=True, metavar="BACKEND=NAME", help="Not the default one of it."
)
@KEPT
@MAX_BATCHES
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="For each program; 0 leaves it to the runtimes.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=50, show_default=True)
@MIN_SQNR
@STRICT
@FORMAT
@click.option("--html", type=FILE, help="Also write a page with bars and tables to this file.")
@reports_errors
def compare(
    model: Path,
    calibration: Path,
    backends: list[str],
    configs: tuple[str, ...],
    kept: tuple[str, ...],
    max_batches: int | None,
    threads: int,
    rounds: int,
    min_sqnr: float | None,
    strict: bool,
    as_json: bool,
    html: Path | None,
) -> None:
    """Quantize MODEL for several backends, and compare what each makes of it.

    A backend that fails is a row with its reason; the exit code is 1 if all do, and with --strict
    if any fails or is far from float.
    """
    from qreg.programs.files import read_batches, read_program

    check_decibels(min_sqnr)
    quiet_imports()
    registry = current_registry()
    chosen = dict(map(_pair, configs))
    check_outputs([html] if html else [], model, calibration)

    from attrs import evolve

    from qreg.comparison import compare as compared
    from qreg.comparison.text import print_comparison
    from qreg.utils.tables import console

    found = compared(
        read_program(model),
        backends=backends,
        calibration=read_batches(calibration),
        max_batches=max_batches,
        configs=chosen,
        keep_in_float=kept,
        threads=threads or None,
        rounds=rounds,
        min_sqnr=least_sqnr(min_sqnr),
        registry=registry,
    )
    entries = (evolve(e, failure=e.failure and as_options(e.failure)) for e in found.entries)
    found = evolve(found, entries=tuple(entries))
    if html:
        found.save_html(html)
    if as_json:
        click.echo(found.to_json())
    else:
        print_comparison(found, console())
    strict = strict or registry.switches.strict
    passed = [each.works and not (strict and each.verdict == "poor") for each in found.entries[1:]]
    if not (all(passed) if strict else any(passed)):
        raise SystemExit(1)


def _pair(text: str) -> tuple[str, str]:
    from qreg.errors import InputError

    backend, equals, config = text.partition("=")
    if not equals:
        raise InputError(f"--config {text!r} is for one backend: write --config BACKEND={text}")
    return backend, config
