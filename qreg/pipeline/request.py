"""What a user asks of ``quantize``, by arguments or by a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from qreg.errors import ConfigError, InputError
from qreg.inputs.quantized_io import FLOAT, IO
from qreg.pipeline.selection import Algorithms
from qreg.plugins.registry import DEFAULT, DEFAULT_BACKEND, Registry
from qreg.quantizer.registry_quantizer import Config, RegistryQuantizer
from qreg.recipes.quantizers import quantizer_of
from qreg.recipes.recipe import Recipe
from qreg.recipes.record import Record
from qreg.recipes.versions import warn_of_changes


@frozen
class Request:
    """The arguments that a recipe replaces; ``record`` and ``seed`` are those of a recipe."""

    backend: str = DEFAULT_BACKEND
    config: Config = DEFAULT
    quantizer: RegistryQuantizer | None = None
    algorithms: Algorithms = ()
    options: Mapping[str, Any] | None = None
    record: Record | None = None
    seed: int = 0
    io: IO = FLOAT


def loaded(recipe: Recipe | str | Path) -> Recipe:
    """Return a recipe, read if it is a path, or checked. Raises what :meth:`Recipe.load` raises."""
    if not isinstance(recipe, (Recipe, str, Path)):
        raise InputError(f"recipe: {recipe!r} is not a recipe (expected a Recipe or its path)")
    if not isinstance(recipe, Recipe):
        return Recipe.load(recipe)
    recipe.check()
    return recipe


def request_of(recipe: Recipe | str | Path, others: Request, registry: Registry | None) -> Request:
    """Return what a recipe asks for, and warn of versions that differ.

    Raises ``ConfigError`` if an argument that the recipe replaces was passed too, and what
    :meth:`Recipe.load` and ``RegistryQuantizer`` raise.
    """
    found = loaded(recipe)
    _check_alone(others, found)
    warn_of_changes(found.versions)
    return Request(
        backend=found.backend,
        quantizer=quantizer_of(found, registry),
        algorithms=found.algorithms,
        options=found.options,
        record=found.record,
        seed=found.seed,
        io=found.io,
    )


def _check_alone(others: Request, recipe: Recipe) -> None:
    given = {
        "backend": others.backend not in (DEFAULT_BACKEND, recipe.backend),
        "config": others.config != DEFAULT,
        "quantizer": others.quantizer is not None,
        "algorithms": bool(others.algorithms),
        "options": bool(others.options),
        "io": others.io != FLOAT,
    }
    for name, is_given in given.items():
        if is_given:
            raise ConfigError(
                f"{name}: a recipe has its own (expected none). Pass either recipe or {name}, or "
                "edit the recipe."
            )
