"""Read the files of a command, and check its names and numbers before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from attrs import frozen
from click.core import ParameterSource

from qreg.cli.data import data_file
from qreg.cli.inputs import Inputs, read_inputs
from qreg.cli.models import model_file
from qreg.cli.options import JobOptions
from qreg.cli.reporting import current_registry
from qreg.cli.scopes import scoped
from qreg.plugins.registry import DEFAULT

if TYPE_CHECKING:
    from qreg.pipeline.arguments import QuantizeOptions
    from qreg.recipes.recipe import Recipe


@frozen
class Job:
    """A model to quantize for one backend, and the arguments to quantize or explain it with."""

    inputs: Inputs
    arguments: QuantizeOptions


def resolve_job(given: JobOptions, outputs: Sequence[Path] = ()) -> Job:
    """Check the arguments of a command, and read its files.

    ``outputs`` are the files that the command will write. Raises ``QregError`` for invalid
    arguments, files and outputs.
    """
    from qreg.pipeline.selection import selected
    from qreg.plugins.options import parsed
    from qreg.quantizer.registry_quantizer import RegistryQuantizer

    check_decibels(given["min_sqnr"])
    registry = current_registry()
    options = parsed(registry.backend(given["backend"]).value, given["texts"])
    quantizer = RegistryQuantizer(given["backend"], given["config"], registry=registry)
    scoped(quantizer, given)
    selected(registry, asked(given["algorithms"]))
    inputs = _read(given, outputs)
    arguments: QuantizeOptions = {
        "quantizer": quantizer,
        "calibration": inputs.batches,
        "max_batches": given["max_batches"],
        "options": options,
        "min_sqnr": least_sqnr(given["min_sqnr"]),
        "algorithms": asked(given["algorithms"]),
        "workers": given["workers"],
        "timeout": given["timeout"],
    }
    return Job(inputs, arguments)


def _read(given: JobOptions, outputs: Sequence[Path]) -> Inputs:
    model, calibration = given["model"], given["calibration"]
    check_outputs(outputs, model_file(model), data_file(calibration))
    return read_inputs(model, calibration, "--calibration", given)


def followed_recipe(path: Path, given: JobOptions) -> Recipe:
    """Return the recipe in a file.

    Raises ``InputError`` for an option that the recipe replaces, and what ``Recipe.load`` raises.
    """
    from qreg.errors import InputError

    source = click.get_current_context().get_parameter_source("backend")
    replaced = {
        "--backend": source is not ParameterSource.DEFAULT,
        "--config": given["config"] != DEFAULT,
        "--float": bool(given["kept"]),
        "--float-type": bool(given["types"]),
        "--float-operator": bool(given["operators"]),
        "--config-for": bool(given["scopes"]),
        "--algorithms": bool(given["algorithms"]),
        "--option": bool(given["texts"]),
    }
    for option, is_given in replaced.items():
        if is_given:
            raise InputError(
                f"{option}: the recipe has its own (expected none). Omit {option}, or edit {path}."
            )
    from qreg.recipes.recipe import Recipe

    return Recipe.load(path)


def recipe_job(given: JobOptions, recipe: Recipe, outputs: Sequence[Path] = ()) -> Job:
    """Check the arguments of a command that follows a recipe, and read its files.

    Raises as :func:`resolve_job`.
    """
    check_decibels(given["min_sqnr"])
    inputs = _read(given, outputs)
    arguments: QuantizeOptions = {
        "recipe": recipe,
        "registry": current_registry(),
        "calibration": inputs.batches,
        "max_batches": given["max_batches"],
        "min_sqnr": least_sqnr(given["min_sqnr"]),
        "workers": given["workers"],
        "timeout": given["timeout"],
    }
    return Job(inputs, arguments)


def asked(names: Sequence[str] | None) -> str | Sequence[str]:
    """Return the algorithms that an option names, or ``"auto"``."""
    from qreg.pipeline.selection import AUTO

    return AUTO if names == [AUTO] else names or ()


def check_outputs(outputs: Sequence[Path], *inputs: Path | None) -> None:
    """Raise ``InputError`` for an output that is also an input, or that cannot be written."""
    from qreg.errors import InputError
    from qreg.utils.files import check_writable

    for output in outputs:
        if output.resolve() in [each.resolve() for each in inputs if each]:
            raise InputError(f"{output} is an input: name another output")
        check_writable(output)


def check_decibels(min_sqnr: float | None, floor: float | None = None) -> None:
    """Raise ``InputError`` for a value that is not a valid ratio in dB."""
    from qreg.verification.verdict import check_floor, check_min_sqnr

    if min_sqnr is not None:
        check_min_sqnr(min_sqnr, "--min-sqnr")
    if floor is not None:
        check_floor(floor, "--floor")


def least_sqnr(min_sqnr: float | None) -> float:
    """Return the minimum SQNR to float in dB, by default that of the library."""
    from qreg.verification.verify import MIN_SQNR

    return MIN_SQNR if min_sqnr is None else min_sqnr
