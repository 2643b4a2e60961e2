"""``qreg quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from qreg.cli.data import data_file
from qreg.cli.job import check_decibels, check_outputs, followed_recipe, recipe_job, resolve_job
from qreg.cli.metric import EVALUATE, evaluated
from qreg.cli.models import beside, model_file
from qreg.cli.options import FILE, NAMES, RECIPE, JobOptions, job_options
from qreg.cli.outputs import ReportOptions, files, measured, put, report_options
from qreg.cli.reporting import current_registry, judging, reports_errors
from qreg.plugins.registry import DEFAULT

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from qreg.cli.job import Job
    from qreg.quantizer.registry_quantizer import RegistryQuantizer


class Options(JobOptions, ReportOptions):
    """The arguments that are not of this command alone."""


@click.command()
@job_options
@click.option(
    "-o", "--output", type=FILE, help="Where to write the program; default: next to MODEL."
)
@RECIPE
@click.option("--save-recipe", type=FILE, help="Also write the recipe of the program, as TOML.")
@click.option(
    "--bundle", type=FILE, help="Also write the program with all that is known of it to a folder."
)
@click.option(
    "--bits",
    type=float,
    help="Choose a config for each layer, with this many bits per weight on average.",
)
@click.option(
    "--bits-from",
    **NAMES,
    help="The configs that --bits chooses from; default: all dynamic and weight-only ones.",
)
@click.option("--allow-float", is_flag=True, help="Lower the float model if nothing is quantized.")
@EVALUATE
@click.option(
    "--io",
    **NAMES,
    help="Take and give quantized tensors: int8 for all, or the names of inputs and outputs.",
)
@click.option(
    "--work", type=FILE, help="A folder for what is finished, from which a stopped run goes on."
)
@click.option("--no-verify", is_flag=True, help="Do not load and run the program.")
@report_options
@reports_errors
def quantize(
    output: Path | None,
    recipe: Path | None,
    save_recipe: Path | None,
    bundle: Path | None,
    bits: float | None,
    bits_from: list[str] | None,
    evaluate: str | None,
    allow_float: bool,
    io: list[str] | None,
    work: Path | None,
    no_verify: bool,
    **given: Unpack[Options],
) -> None:
    """Quantize MODEL, and lower it for a backend.

    MODEL is a file written by torch.export.save, or MODULE:NAME or FILE.py:NAME, which names a
    module, a program, or a function that returns either.
    """
    from qreg.bundles.writing import check_replaceable
    from qreg.plugins.options import parsed
    from qreg.programs.loading import paths
    from qreg.programs.lowering import target
    from qreg.recipes.recipe import check_suffix

    check_decibels(given["min_sqnr"])
    _check_bits(bits, bits_from, recipe, given)
    registry = current_registry()
    follow = followed_recipe(recipe, given) if recipe else None
    kind = registry.backend(follow.backend if follow else given["backend"]).value
    target(registry, kind.name, follow.options if follow else parsed(kind, given["texts"]))
    output = output or beside(given["model"], kind.suffix)
    sources = model_file(given["model"]), data_file(given["calibration"]), recipe
    check_outputs([output], *sources)
    written = paths(kind, output)
    outputs = [*written, *files(given), *([save_recipe] if save_recipe else [])]
    if save_recipe:
        check_suffix(save_recipe)
    if bundle:
        check_replaceable(bundle)
    job = recipe_job(given, follow, outputs) if follow else resolve_job(given, outputs)

    import qreg
    from qreg.pipeline.result import report_of

    metric = evaluated(evaluate, job.inputs, runs_here=kind.load is not None)
    if bits is not None:
        job.arguments["quantizer"] = _allocated(job, given, bits, bits_from)
    with judging(given["strict"]):
        job.arguments["verify"] = not no_verify
        result = qreg.quantize(
            job.inputs.model,
            job.inputs.example,
            allow_float=allow_float,
            io=_tensors(io),
            work=work,
            **job.arguments,
        )
    report = report_of(result, **measured(given))
    compared = metric.of(result) if metric else None
    if save_recipe:
        result.recipe.save(save_recipe)
    if bundle:
        result.save_bundle(bundle)
    result.save(output)
    put(report, given, compared, operators=given["numerics"])
    size = f"({len(result.program)} bytes)"
    click.echo(f"wrote {' and '.join(map(str, written))} {size}", err=given["as_json"])


def _tensors(names: list[str] | None) -> str | dict[str, str]:
    """Return the argument ``io`` for the names of an option, or for ``int8``."""
    from qreg.inputs.quantized_io import FLOAT, INT8

    if names is None:
        return FLOAT
    return INT8 if names == [INT8] else dict.fromkeys(names, INT8)


def _check_bits(
    bits: float | None, names: list[str] | None, recipe: Path | None, given: JobOptions
) -> None:
    from qreg.errors import InputError
    from qreg.tuning.allocation import check_bits

    if bits is None:
        if names is not None:
            raise InputError("--bits-from: it is only for --bits (expected both). Pass --bits.")
        return
    check_bits(bits)
    others = {
        "--recipe": recipe is not None,
        "--config": given["config"] != DEFAULT,
        "--config-for": bool(given["scopes"]),
        "--float-type": bool(given["types"]),
    }
    for option in filter(others.get, others):
        raise InputError(f"--bits: it chooses the configs (expected no {option}). Omit {option}.")
    if not given["calibration"]:
        raise InputError("--bits: it measures each layer on data. Pass --calibration FILE.")
    for name in names or ():
        current_registry().config(given["backend"], name)


def _allocated(
    job: Job, given: JobOptions, bits: float, names: list[str] | None
) -> RegistryQuantizer:
    """Return a quantizer with the configs that are chosen for a size, and print them."""
    import qreg

    found = qreg.allocate_bits(
        job.inputs.model,
        job.inputs.example,
        bits=bits,
        calibration=job.inputs.required,
        backend=given["backend"],
        configs=names,
        keep_in_float=(*given["kept"], *given["operators"]),
        max_batches=given["max_batches"],
        registry=current_registry(),
    )
    for note in found.notes:
        click.echo(note, err=True)
    click.echo(str(found))
    return found.quantizer
