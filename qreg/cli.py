"""The command line. Listing imports no torch: everything heavy is imported where it is used."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import click

from qreg.quiet import quiet_imports
from qreg.registry import DEFAULT, DEFAULT_BACKEND, Registry
from qreg.remedies import as_options

if TYPE_CHECKING:
    from qreg.quantizer import RegistryQuantizer

FILE = click.Path(path_type=Path)
BACKEND = click.option("--backend", default=DEFAULT_BACKEND, show_default=True)
CONFIG = click.option(
    "--config", default=DEFAULT, show_default=True, help="A name from `qreg ops`."
)
CALIBRATION = click.option(
    "--calibration", type=FILE, help="A torch.save'd list of tuples of input tensors."
)
MAX_BATCHES = click.option(
    "--max-batches", type=click.IntRange(min=1), help="Take no more batches than this."
)
OPTIONS = click.option(
    "--option",
    "texts",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the backend, as `qreg ops` lists them; may be given several times.",
)
KEPT = click.option(
    "--float",
    "kept",
    multiple=True,
    metavar="NAME",
    help="Keep a module, by its path, or an operator, by its name, in float; may be repeated.",
)
MIN_SQNR = click.option(
    "--min-sqnr",
    type=float,
    metavar="DB",
    help="The least SQNR to float of each output and slice; default 10.",
)
STRICT = click.option("--strict", is_flag=True, help="Make a program far from float an error.")
FORMAT = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def _reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turns what qreg raises on purpose, and Ctrl-C, into a message and a non-zero exit code."""

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        from qreg.errors import QregError, QualityWarning

        try:
            command(*arguments, **options)
        except (QregError, QualityWarning) as error:
            raise click.ClickException(as_options(str(error))) from error
        except KeyboardInterrupt as interrupt:
            click.echo(f"{interrupt or 'stopped'}; nothing was written", err=True)
            raise SystemExit(INTERRUPTED) from interrupt

    return wrapped


def _registry() -> Registry:
    registry: Registry = click.get_current_context().obj
    return registry


@contextmanager
def _judging(strict: bool) -> Iterator[None]:
    """Prints quality warnings to standard error; raises them instead where that is wanted."""
    from qreg.errors import QualityWarning

    raises = strict or _registry().switches.strict
    with warnings.catch_warnings():
        warnings.simplefilter("error" if raises else "always", QualityWarning)
        show = warnings.showwarning

        def shown(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, QualityWarning):
                click.echo(f"Warning: {as_options(str(message))}", err=True)
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = shown
        yield


def _least(min_sqnr: float | None) -> float:
    from qreg.verification import MIN_SQNR

    return MIN_SQNR if min_sqnr is None else min_sqnr


def _check_decibels(min_sqnr: float | None, floor: float | None = None) -> None:
    from qreg.verdict import check_floor, check_min_sqnr

    if min_sqnr is not None:
        check_min_sqnr(min_sqnr, "--min-sqnr")
    if floor is not None:
        check_floor(floor, "--floor")


def _quantizer(backend: str, config: str, kept: Sequence[str]) -> RegistryQuantizer:
    from qreg.quantizer import RegistryQuantizer
    from qreg.remedies import keep_in_float

    return keep_in_float(RegistryQuantizer(backend, config, registry=_registry()), kept)


def _named(context: click.Context, option: click.Parameter, text: str | None) -> list[str] | None:
    from qreg.switches import listed

    return None if text is None else listed(text)


def _check_no_input(output: Path, *inputs: Path | None) -> None:
    from qreg.errors import InputError

    if output.resolve() in [each.resolve() for each in inputs if each]:
        raise InputError(f"{output} is an input: name another output")


NAMES: Any = {"metavar": "NAME,...", "callback": _named}


@click.group()
@click.version_option(package_name="qreg")
@click.option("--load-plugins", help="Load these plugins only.", **NAMES)
@click.option("--disable-plugins", help="Leave these plugins out.", **NAMES)
@click.option(
    "--strict",
    is_flag=True,
    default=None,
    help="Make a broken plugin, and a program far from float, an error.",
)
@click.option("--trace", is_flag=True, default=None, help="Print each call of a hook.")
@click.pass_context
@_reports_errors
def main(
    context: click.Context,
    load_plugins: list[str] | None,
    disable_plugins: list[str] | None,
    strict: bool | None,
    trace: bool | None,
) -> None:
    """Quantize PyTorch models for any backend that is installed."""
    context.obj = Registry(load=load_plugins, disable=disable_plugins, strict=strict, trace=trace)


@main.command("list")
@FORMAT
@_reports_errors
def list_(as_json: bool) -> None:
    """The installed backends and plugins."""
    from qreg.listing import plugin_rows
    from qreg.tables import print_table

    registry = _registry()
    rows = plugin_rows(registry)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not registry.backends():
        click.echo(
            "No backend is installed. Each is a distribution of its own, for example:\n"
            "  pip install qreg-xnnpack"
        )
    print_table(rows)


@main.command()
@click.argument("backend")
@FORMAT
@_reports_errors
def ops(backend: str, as_json: bool) -> None:
    """The configs of BACKEND and the operator patterns that each covers."""
    from qreg.listing import config_rows, option_rows, pattern_rows
    from qreg.tables import print_table

    configs = config_rows(_registry(), backend)
    patterns = pattern_rows(_registry(), backend)
    options = option_rows(_registry(), backend)
    if as_json:
        listed = {"configs": configs, "patterns": patterns, "options": options}
        click.echo(json.dumps(listed, indent=2))
        return
    print_table(configs)
    for rows in (patterns, options):
        if rows:
            click.echo()
            print_table([{key: row[key] for key in row if key != "configs"} for row in rows])


@main.command()
@click.argument("model", type=FILE)
@BACKEND
@CONFIG
@KEPT
@CALIBRATION
@MAX_BATCHES
@OPTIONS
@click.option("-o", "--output", type=FILE, help="Where to write the program.")
@click.option("--allow-float", is_flag=True, help="Go on where nothing can be quantized.")
@click.option("--no-verify", is_flag=True, help="Do not load and run the program.")
@MIN_SQNR
@STRICT
@_reports_errors
def quantize(
    model: Path,
    backend: str,
    config: str,
    kept: tuple[str, ...],
    calibration: Path | None,
    max_batches: int | None,
    texts: tuple[str, ...],
    output: Path | None,
    allow_float: bool,
    no_verify: bool,
    min_sqnr: float | None,
    strict: bool,
) -> None:
    """Quantize MODEL, a file that torch.export.save wrote, and lower it for a backend."""
    from qreg.files import check_writable, read_batches, read_program
    from qreg.options import parsed
    from qreg.programs import paths
    from qreg.target import target

    _check_decibels(min_sqnr)
    quiet_imports()
    registry = _registry()
    kind = registry.backend(backend).value
    options = parsed(kind, texts)
    registry.config(backend, config)
    target(registry, backend, options)
    output = output or _beside(model, kind.suffix)
    _check_no_input(output, model, calibration)
    check_writable(output)
    for each in paths(kind, output):
        check_writable(each)
        _check_no_input(each, model, calibration)
    program = read_program(model)
    batches = read_batches(calibration) if calibration else None

    from qreg import pipeline
    from qreg.summary import print_report

    with _judging(strict):
        result = pipeline.quantize(
            program,
            quantizer=_quantizer(backend, config, kept),
            calibration=batches,
            max_batches=max_batches,
            allow_float=allow_float,
            verify=not no_verify,
            min_sqnr=_least(min_sqnr),
            options=options,
        )
    result.save(output)
    print_report(result.report, operators=False, reworded=as_options)
    written = " and ".join(map(str, paths(kind, output)))
    click.echo(f"wrote {written} ({len(result.program)} bytes)")


def _beside(model: Path, suffix: str) -> Path:
    """Where the program of a model goes if nothing else is said: never over the model."""
    return model.with_suffix(f".quantized{suffix}" if model.suffix == suffix else suffix)


@main.command()
@click.argument("model", type=FILE)
@BACKEND
@CONFIG
@KEPT
@CALIBRATION
@MAX_BATCHES
@OPTIONS
@click.option("--numerics", is_flag=True, help="Measure the noise of each operator.")
@click.option("--timing", is_flag=True, help="Lower the float model too, and time both programs.")
@click.option("--profile", is_flag=True, help="Time each operator by itself, in int8 and float.")
@MIN_SQNR
@STRICT
@FORMAT
@click.option("--html", type=FILE, help="Also write the report as a page to this file.")
@click.option("--overlay", type=FILE, help="Also write node data for Model Explorer to this file.")
@click.option("--overlay-by", type=click.Choice(["place", "sqnr"]), default="place")
@_reports_errors
def explain(
    model: Path,
    backend: str,
    config: str,
    kept: tuple[str, ...],
    calibration: Path | None,
    max_batches: int | None,
    texts: tuple[str, ...],
    numerics: bool,
    timing: bool,
    profile: bool,
    min_sqnr: float | None,
    strict: bool,
    as_json: bool,
    html: Path | None,
    overlay: Path | None,
    overlay_by: Literal["place", "sqnr"],
) -> None:
    """Say what becomes of every operator of MODEL and why.

    Without --calibration nothing is lowered: the report has the decisions alone.
    """
    from qreg.files import check_writable, read_batches, read_program
    from qreg.options import parsed

    _check_decibels(min_sqnr)
    quiet_imports()
    _registry().config(backend, config)
    options = parsed(_registry().backend(backend).value, texts)
    for path in filter(None, (html, overlay)):
        check_writable(path)
        _check_no_input(path, model, calibration)
    program = read_program(model)
    batches = read_batches(calibration) if calibration else None

    from qreg import explanation
    from qreg.summary import print_report

    with _judging(strict):
        report = explanation.explain(
            program,
            quantizer=_quantizer(backend, config, kept),
            calibration=batches,
            min_sqnr=_least(min_sqnr),
            numerics=numerics,
            timing=timing,
            profile=profile,
            max_batches=max_batches,
            options=options,
        )
    if html:
        report.save_html(html)
    if overlay:
        report.save_overlay(overlay, overlay_by)
    if as_json:
        click.echo(report.to_json())
    else:
        print_report(report, reworded=as_options)


@main.command()
@click.argument("program", type=FILE)
@click.option("--reference", type=FILE, required=True, help="The model it was made from, a .pt2.")
@click.option("--inputs", type=FILE, required=True, help="A torch.save'd list of input tuples.")
@BACKEND
@OPTIONS
@MIN_SQNR
@STRICT
@click.option("--floor", type=float, help="An SQNR to the reference in dB below which it fails.")
@FORMAT
@_reports_errors
def verify(
    program: Path,
    reference: Path,
    inputs: Path,
    backend: str,
    texts: tuple[str, ...],
    min_sqnr: float | None,
    strict: bool,
    floor: float | None,
    as_json: bool,
) -> None:
    """Load PROGRAM in its backend's runtime, run it, and compare it with a reference."""
    from qreg.files import read_batches, read_program
    from qreg.options import parsed
    from qreg.programs import read_lowered
    from qreg.target import target

    _check_decibels(min_sqnr, floor)
    quiet_imports()
    registry = _registry()
    kind = registry.backend(backend).value
    options = parsed(kind, texts)
    target(registry, backend, options)
    lowered = read_lowered(registry.backend(backend), program)
    model, batches = read_program(reference), read_batches(inputs)

    from attrs import asdict

    from qreg.isolation import run_isolated
    from qreg.reference import REFERENCE
    from qreg.reference import verify as compare
    from qreg.report import plain
    from qreg.summary import output_rows, verified_line
    from qreg.tables import print_table

    with _judging(strict):
        found = compare(
            lowered,
            model,
            batches,
            backend=backend,
            min_sqnr=_least(min_sqnr),
            floor=floor,
            options=options,
            registry=registry,
            run=run_isolated,
        )
    if as_json:
        click.echo(json.dumps(asdict(found, value_serializer=plain), indent=2))
        return
    click.echo(verified_line(found, REFERENCE))
    print_table(output_rows(found, REFERENCE))


@main.command()
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
@_reports_errors
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
    from qreg.files import check_writable, read_batches, read_program

    _check_decibels(min_sqnr)
    quiet_imports()
    registry = _registry()
    chosen = dict(map(_pair, configs))
    if html:
        check_writable(html)
        _check_no_input(html, model, calibration)

    from attrs import evolve

    from qreg.comparison import compare as compared
    from qreg.comparison.text import print_comparison
    from qreg.tables import console

    found = compared(
        read_program(model),
        backends=backends,
        calibration=read_batches(calibration),
        max_batches=max_batches,
        configs=chosen,
        keep_in_float=kept,
        threads=threads or None,
        rounds=rounds,
        min_sqnr=_least(min_sqnr),
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


@main.command("new-plugin")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["annotator", "config", "backend"]),
    default="annotator",
    show_default=True,
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=".",
    show_default=True,
    help="The folder to write the project into.",
)
@_reports_errors
def new_plugin(name: str, kind: Literal["annotator", "config", "backend"], output: Path) -> None:
    """Write the project qreg-NAME: a plugin that works, and tests that pass as they are."""
    from qreg.scaffold import new_plugin as write

    project = write(name, kind, output)
    click.echo(f"wrote {project}")
    click.echo(f"next: pip install -e {project} 'qreg[testing]' && pytest {project}")
