"""The command line. Listing imports no torch: everything heavy is imported where it is used."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from qreg.registry import Registry

FORMAT = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
FILE = click.Path(path_type=Path)


def _reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turns what qreg raises on purpose, and Ctrl-C, into a message and a non-zero exit code."""

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        from qreg.errors import QregError

        try:
            command(*arguments, **options)
        except QregError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt as interrupt:
            click.echo(f"{interrupt or 'stopped'}; nothing was written", err=True)
            raise SystemExit(INTERRUPTED) from interrupt

    return wrapped


def _quiet_imports() -> None:
    """torchao 0.18 warns, on import, of GPU extensions and enum types that are no matter here."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _registry() -> Registry:
    from qreg.registry import installed

    return installed()


@click.group()
@click.version_option(package_name="qreg")
def main() -> None:
    """Quantize PyTorch models for any backend that is installed."""


@main.command("list")
@FORMAT
@_reports_errors
def list_(as_json: bool) -> None:
    """The installed backends and plugins."""
    from qreg import report

    registry = _registry()
    rows = report.plugin_rows(registry)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not registry.backends():
        click.echo(
            "No backend is installed. Each is a distribution of its own, for example:\n"
            "  pip install qreg-xnnpack"
        )
    if rows:
        report.print_table(rows)


@main.command()
@click.argument("backend")
@FORMAT
@_reports_errors
def ops(backend: str, as_json: bool) -> None:
    """The configs of BACKEND and the operator patterns that each covers."""
    from qreg import report

    configs = report.config_rows(_registry(), backend)
    patterns = report.pattern_rows(_registry(), backend)
    if as_json:
        click.echo(json.dumps({"configs": configs, "patterns": patterns}, indent=2))
        return
    for rows in filter(None, (configs, patterns)):
        report.print_table(rows)
        click.echo()


@main.command()
@click.argument("model", type=FILE)
@click.option("--backend", default="xnnpack", show_default=True)
@click.option("--config", default="default", show_default=True, help="A name from `qreg ops`.")
@click.option("--calibration", type=FILE, help="A torch.save'd list of tuples of input tensors.")
@click.option("--max-batches", type=click.IntRange(min=1), help="Take no more batches than this.")
@click.option("-o", "--output", type=FILE, help="Where to write the program.")
@click.option("--allow-float", is_flag=True, help="Go on where nothing can be quantized.")
@click.option("--no-verify", is_flag=True, help="Do not load and run the program.")
@_reports_errors
def quantize(
    model: Path,
    backend: str,
    config: str,
    calibration: Path | None,
    max_batches: int | None,
    output: Path | None,
    allow_float: bool,
    no_verify: bool,
) -> None:
    """Quantize MODEL, a file that torch.export.save wrote, and lower it for a backend."""
    from qreg.errors import InputError
    from qreg.files import check_writable, read_batches, read_program

    _quiet_imports()
    registry = _registry()
    suffix = registry.backend(backend).value.suffix
    registry.config(backend, config)
    registry.check_installed(backend)
    output = output or model.with_suffix(suffix)
    check_writable(output)
    if output.resolve() in [each.resolve() for each in (model, calibration) if each]:
        raise InputError(f"{output} is an input: name another output with -o")
    program = read_program(model)
    batches = read_batches(calibration) if calibration else None

    from qreg import pipeline, report

    result = pipeline.quantize(
        program,
        registry=registry,
        backend=backend,
        calibration=batches,
        max_batches=max_batches,
        config=config,
        allow_float=allow_float,
        verify=not no_verify,
    )
    result.save(output)
    report.print_result(result)
    click.echo(f"wrote {output} ({len(result.program)} bytes)")
