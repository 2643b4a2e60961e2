"""``qreg compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from attrs import define

from qreg.cli import completion
from qreg.cli.data import data_file
from qreg.cli.forms import DataOptions, data_options
from qreg.cli.inputs import read_inputs
from qreg.cli.job import asked, check_decibels, check_outputs, least_sqnr
from qreg.cli.models import model_file
from qreg.cli.options import (
    ALGORITHMS,
    CONFIGS,
    DATA,
    FILE,
    FORMAT,
    MAX_BATCHES,
    MIN_SQNR,
    MODEL,
    NAMES,
    STRICT,
    TIMEOUT,
)
from qreg.cli.pairs import pair
from qreg.cli.remedies import as_options
from qreg.cli.reporting import INTERRUPTED, current_registry, reports_errors
from qreg.cli.scopes import KEPT

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from qreg.comparison import Comparison


@click.command()
@MODEL
@DATA
@data_options
@click.option(
    "--backends",
    required=True,
    help="The backends to compare.",
    shell_complete=completion.backends,
    **NAMES,
)
@CONFIGS
@KEPT
@MAX_BATCHES
@ALGORITHMS
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Threads of each program; 0: the runtimes decide.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="How often the programs take turns.",
)
@TIMEOUT
@MIN_SQNR
@STRICT
@FORMAT
@click.option("--html", type=FILE, help="Also write a page with bars and tables to this file.")
@reports_errors
def compare(
    model: str,
    calibration: str,
    backends: list[str],
    configs: tuple[str, ...],
    kept: tuple[str, ...],
    algorithms: list[str] | None,
    max_batches: int | None,
    threads: int,
    rounds: int,
    timeout: float,
    min_sqnr: float | None,
    strict: bool,
    as_json: bool,
    html: Path | None,
    **form: Unpack[DataOptions],
) -> None:
    """Quantize MODEL for several backends, and compare their programs.

    A backend that fails is a row with the reason. The exit code is 1 if all backends fail, and
    with --strict if any backend fails or is far from float. Each row is printed, and added to the
    page, as soon as it is complete but for its latency: a comparison that is stopped keeps them.
    """
    from qreg.comparison.values import FLOAT
    from qreg.plugins.chosen import chosen_configs

    check_decibels(min_sqnr)
    chosen = chosen_configs(
        current_registry(), backends, dict(map(pair, configs)), besides=(FLOAT,)
    )
    check_outputs([html] if html else [], model_file(model), data_file(calibration))

    from qreg.comparison import compare as compared

    inputs = read_inputs(model, calibration, "--calibration", form)
    output = _Output(html, as_json)
    try:
        found = compared(
            inputs.model,
            inputs.example,
            backends=backends,
            calibration=inputs.required,
            max_batches=max_batches,
            configs=chosen,
            keep_in_float=kept,
            algorithms=asked(algorithms),
            threads=threads or None,
            rounds=rounds,
            timeout=timeout or None,
            min_sqnr=least_sqnr(min_sqnr),
            registry=current_registry(),
            on_entry=output.add,
        )
    except KeyboardInterrupt as interrupt:
        if output.found is None:
            raise
        output.end(output.found)
        click.echo(output.kept(interrupt), err=True)
        raise SystemExit(INTERRUPTED) from interrupt
    output.end(_reworded(found))
    if not _passed(found, strict or current_registry().switches.strict):
        raise SystemExit(1)


@define
class _Output:
    """Where a comparison is printed and written; ``found`` are the rows so far."""

    html: Path | None
    as_json: bool
    found: Comparison | None = None

    def add(self, found: Comparison) -> None:
        """Print the last row, and write all to the page."""
        from qreg.comparison.text import line

        self.found = _reworded(found)
        click.echo(line(self.found.entries[-1]), err=self.as_json)
        if self.html:
            self.found.save_html(self.html)

    def end(self, found: Comparison) -> None:
        """Print the comparison, and write it to the page."""
        from qreg.comparison.text import print_comparison
        from qreg.utils.tables import console

        if self.html:
            found.save_html(self.html)
        if self.as_json:
            click.echo(found.to_json())
        else:
            print_comparison(found, console())

    def kept(self, interrupt: KeyboardInterrupt) -> str:
        """Return a sentence on the rows that an interrupt did not cost."""
        names = ", ".join(each.backend for each in self.found.entries) if self.found else "none"
        written = f", which are in {self.html}" if self.html else ""
        return f"{interrupt or 'stopped'}; rows finished, and not timed: {names}{written}"


def _reworded(found: Comparison) -> Comparison:
    """Return the comparison with failures worded for the command line."""
    from attrs import evolve

    entries = (evolve(e, failure=e.failure and as_options(e.failure)) for e in found.entries)
    return evolve(found, entries=tuple(entries))


def _passed(found: Comparison, strict: bool) -> bool:
    """Whether any backend works; if ``strict``, whether all do and none is far from float."""
    backends = found.entries[1:]
    if strict:
        return all(each.works and each.verdict != "poor" for each in backends)
    return any(each.works for each in backends)
