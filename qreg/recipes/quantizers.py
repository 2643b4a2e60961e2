"""The quantizer that a recipe describes, and the recipe of a quantizer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from qreg.errors import ConfigError, RecipeError, UnknownNameError
from qreg.plugins.registry import DEFAULT, Registry, installed
from qreg.quantizer.registry_quantizer import RegistryQuantizer
from qreg.recipes.recipe import Recipe
from qreg.recipes.specs import config_of, config_table
from qreg.recipes.values import FLOAT, Named, Scope
from qreg.recipes.versions import versions_for

if TYPE_CHECKING:
    from qreg.quantizer.scopes import Choice
    from qreg.recipes.record import Record


def quantizer_of(recipe: Recipe, registry: Registry | None = None) -> RegistryQuantizer:
    """Return the quantizer that a recipe describes.

    Raises ``UnknownNameError`` for an unknown backend or config, and ``ConfigError`` for an
    operator that torch does not have or a config that the backend does not support.
    """
    registry = registry or installed()
    known = registry.configs(recipe.backend)
    _check_names(recipe, known)
    made = {name: config_of(table, name) for name, table in recipe.configs.items()}
    used = set[Scope]()

    def config(name: Scope) -> Any:
        used.add(name)
        if name in (None, DEFAULT) or name in known:
            return name
        if name not in made:
            remedy = "Add it to [configs] of the recipe, or correct the name."
            raise UnknownNameError("config of the recipe", name, [*made, *known], remedy)
        return made[name]

    quantizer = RegistryQuantizer(
        recipe.backend,
        config(recipe.config),
        registry=registry,
        allow_float=recipe.allow_float,
        unknown_modules=recipe.unknown_modules,  # type: ignore[arg-type]
    )
    for name, each in recipe.operators.items():
        quantizer.set_operator_type(name, config(each))
    for name, each in recipe.module_types.items():
        quantizer.set_module_type(name, config(each))
    for name, each in recipe.modules.items():
        quantizer.set_module_name(name, config(each))
    for address, each in recipe.calls.items():
        quantizer.set_operator(*address, config(each))
    for name in made:
        if name not in used:
            raise RecipeError(
                f"[configs] {name!r} is not used (expected a scope with it). Name it as the config "
                "of the recipe or of a scope, or remove it."
            )
    return quantizer


def _check_names(recipe: Recipe, known: Collection[str]) -> None:
    """Raise ``RecipeError`` for a config by value whose name stands for another one."""
    for name in recipe.configs:
        if name in (DEFAULT, FLOAT) or name in known:
            whose = (
                f"a config of backend {recipe.backend!r}" if name in known else "a reserved name"
            )
            raise RecipeError(
                f"[configs] {name!r} is {whose} (expected another name). Rename it in the recipe."
            )


def recipe_of(
    quantizer: RegistryQuantizer,
    options: Mapping[str, Any],
    algorithms: str | Sequence[Named] = (),
    record: Record | None = None,
    seed: int = 0,
    io: str | Mapping[str, str] = "float",
) -> Recipe:
    """Return the recipe of a quantizer, with the other arguments of a run.

    Raises ``ConfigError`` for a quantizer with a filter function, or with a config by value that
    cannot be written.
    """
    if quantizer.filter_function is not None:
        raise ConfigError(
            "the quantizer has a filter function, which a recipe cannot hold. Use scopes: "
            "set_operator addresses a single operator."
        )
    scopes, names = quantizer.scopes, _Names(set(quantizer.registry.configs(quantizer.backend)))
    found = Recipe(
        backend=quantizer.backend,
        config=names.of(scopes.everywhere),
        modules={name: names.of(each) for name, each in scopes.names.items()},
        module_types={name: names.of(each) for name, each in scopes.types.items()},
        operators={name: names.of(each) for name, each in scopes.operators.items()},
        calls={address: names.of(each) for address, each in scopes.calls.items()},
        algorithms=algorithms if isinstance(algorithms, str) else tuple(algorithms),
        options=dict(options),
        seed=seed,
        io=io if isinstance(io, str) else dict(io),
        allow_float=quantizer.allow_float,
        unknown_modules=quantizer.unknown_modules,
        versions=versions_for(quantizer.registry, quantizer.backend),
        record=record,
    )
    return evolve(found, configs=names.tables)


@define
class _Names:
    """The names of configs; those by value get a name here, equal ones the same."""

    known: set[str]
    tables: dict[str, dict[str, Any]] = field(factory=dict)

    def of(self, choice: Choice | None) -> Scope:
        if choice is None or choice.config is None:
            return None
        if choice.label in self.known:
            return choice.label
        table = config_table(choice.config)
        for name, each in self.tables.items():
            if each == table:
                return name
        name = f"custom_{len(self.tables) + 1}" if self.tables else "custom"
        self.tables[name] = table
        return name
