"""``qreg verify``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qreg.cli.forms import DataOptions, data_options
from qreg.cli.inputs import Inputs, read_inputs
from qreg.cli.job import check_decibels, least_sqnr
from qreg.cli.options import BACKEND, FILE, FORMAT, FORMS, MIN_SQNR, OPTIONS, STRICT, TIMEOUT
from qreg.cli.reporting import current_registry, judging, reports_errors

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from typing_extensions import Unpack

    from qreg.verification.verify import Verification


@click.command()
@click.argument("program", type=FILE)
@click.option(
    "--reference",
    required=True,
    metavar="MODEL",
    help="The model to compare with: a file of torch.export.save, or MODULE:NAME.",
)
@click.option("--inputs", required=True, metavar="DATA", help=FORMS)
@data_options
@click.option("--method", help="The method to run, of a program with several.")
@BACKEND
@OPTIONS
@TIMEOUT
@MIN_SQNR
@STRICT
@click.option("--floor", type=float, help="Fail below this SQNR to the reference, in dB.")
@FORMAT
@reports_errors
def verify(
    program: Path,
    reference: str,
    inputs: str,
    method: str | None,
    backend: str,
    texts: tuple[str, ...],
    timeout: float,
    min_sqnr: float | None,
    strict: bool,
    floor: float | None,
    as_json: bool,
    **form: Unpack[DataOptions],
) -> None:
    """Load PROGRAM in its backend's runtime, run it, and compare it with a reference."""
    check_decibels(min_sqnr, floor)
    options = _checked_options(backend, texts)

    from qreg.pipeline.verify import REFERENCE
    from qreg.pipeline.verify import verify as compare
    from qreg.programs.loading import read_lowered
    from qreg.verification.isolation import run_isolated

    lowered = read_lowered(current_registry().backend(backend), program)
    given = read_inputs(reference, inputs, "--inputs", form)
    with judging(strict):
        found = compare(
            lowered,
            _reference(given),
            given.required,
            method=method,
            backend=backend,
            min_sqnr=least_sqnr(min_sqnr),
            floor=floor,
            options=options,
            registry=current_registry(),
            run=partial(run_isolated, timeout=timeout or None),
        )
    print_verification(found, as_json, REFERENCE)


def _checked_options(backend: str, texts: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of a backend, after checking that the backend can be used here."""
    from qreg.plugins.options import parsed
    from qreg.programs.lowering import target

    options = parsed(current_registry().backend(backend).value, texts)
    target(current_registry(), backend, options)
    return options


def _reference(given: Inputs) -> ExportedProgram:
    """Return the model to compare with as a program."""
    from torch import nn

    from qreg.programs.export import exported

    if isinstance(given.model, nn.Module):
        program, _ = exported(given.model, given.example, None)
        return program
    return given.model


def print_verification(found: Verification, as_json: bool, reference: str = "float") -> None:
    """Print how far a program is from a reference, and from the converted model if it is known."""
    from attrs import asdict

    from qreg.report.text import output_rows, verified_line
    from qreg.report.values import plain
    from qreg.utils.tables import print_table

    if as_json:
        click.echo(json.dumps(asdict(found, value_serializer=plain), indent=2))
        return
    click.echo(verified_line(found, reference))
    print_table(output_rows(found, reference))
