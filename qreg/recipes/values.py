"""A recipe as plain values, and back, with checks of keys and types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from qreg.errors import RecipeError, UnknownNameError

Scope: TypeAlias = str | None  # the name of a config; None: float
Named: TypeAlias = str | Mapping[str, Any]  # an algorithm: its name, or a table with parameters
Address: TypeAlias = tuple[str, str, int]  # module, operator, ordinal

SCHEMA = 1
SEEDS = (-(2**63), 2**64 - 1)  # what torch.manual_seed accepts
FLOAT = "float"
PLAIN = (str, int, float, bool)
SCOPES = ("modules", "module_types", "operators")
CALL = {"module": str, "operator": str, "ordinal": int, "config": str}
RECORD = {"file": str, "sha256": str, "intent": str}
KEYS: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "backend": str,
    "config": str,
    "algorithms": (str, list),
    "seed": int,
    "allow_float": bool,
    "unknown_modules": str,
    "io": (str, dict),
    "options": dict,
    **dict.fromkeys(SCOPES, dict),
    "calls": list,
    "configs": dict,
    "versions": dict,
    "record": dict,
}


def plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a recipe as values for TOML, without those that have their default."""
    algorithms = recipe["algorithms"]
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "backend": recipe["backend"],
        "config": _named(recipe["config"]),
        "algorithms": algorithms if isinstance(algorithms, str) else _listed(algorithms),
        **{name: recipe[name] for name in ("seed", "allow_float", "unknown_modules")},
        "io": recipe["io"],
        "options": dict(recipe["options"]),
        **{name: _scopes(recipe[name]) for name in SCOPES},
        "calls": [
            {"module": module, "operator": operator, "ordinal": ordinal, "config": _named(config)}
            for (module, operator, ordinal), config in recipe["calls"].items()
        ],
        "configs": {name: dict(each) for name, each in recipe["configs"].items()},
        "versions": dict(recipe["versions"]),
    }
    needed = ("schema", "backend", "config", "seed")
    default = {"allow_float": False, "unknown_modules": "error", "io": "float"}
    return {
        name: each
        for name, each in found.items()
        if name in needed or (each != default[name] if name in default else each)
    }


def fields_of(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the fields of the recipe in values from TOML; ``where`` is its name in errors.

    Raises ``RecipeError`` for a missing key or a value of another type, and ``UnknownNameError``
    for an unknown key.
    """
    check_table(data, KEYS, where)
    if data.get("schema", SCHEMA) != SCHEMA:
        raise RecipeError(
            f"{where}: schema is {data['schema']} (expected {SCHEMA}). Update qreg to read it."
        )
    if "backend" not in data:
        raise RecipeError(f"{where}: it names no backend. Add a line such as backend = 'xnnpack'.")
    if data.get("unknown_modules", "error") not in ("error", "warn"):
        raise RecipeError(
            f"{where}: unknown_modules is {data['unknown_modules']!r} (expected 'error' or 'warn')"
        )
    if not SEEDS[0] <= data.get("seed", 0) <= SEEDS[1]:
        raise RecipeError(f"{where}: seed is {data['seed']} (expected at most 64 bits)")
    given = {name: data[name] for name in KEYS if name in data and name != "schema"}
    for name in SCOPES:
        given[name] = _read_scopes(data.get(name, {}), f"{where}: [{name}]")
    for name, kind in (("options", PLAIN), ("configs", dict), ("versions", str)):
        _check_values(data.get(name, {}), kind, f"{where}: [{name}]")
    if isinstance(data.get("io"), dict):
        _check_values(data["io"], str, f"{where}: [io]")
    if "config" in data:
        given["config"] = _config(data["config"])
    given["calls"] = _calls(data.get("calls", ()), where)
    if not isinstance(given.get("algorithms", ""), str):
        given["algorithms"] = tuple(
            _algorithm(each, f"{where}: algorithms: {number}")
            for number, each in enumerate(data["algorithms"])
        )
    return given


def check_record(table: Any, where: str) -> None:
    """Raise for a table [record] with other keys than it should have."""
    check_table(table, RECORD, f"{where}: [record]")
    for name in RECORD:
        if name not in table:
            raise RecipeError(f"{where}: [record] lacks {name}")


def _listed(algorithms: Sequence[Named]) -> list[Any]:
    """Return algorithms as values for TOML, which has arrays in place of tuples."""
    return [
        each
        if isinstance(each, str)
        else {name: list(v) if isinstance(v, tuple) else v for name, v in each.items()}
        for each in algorithms
    ]


def _algorithm(given: Any, where: str) -> Named:
    """Return a name, or a table whose arrays are tuples."""
    _check_type(given, (str, dict), where)
    if isinstance(given, str):
        return given
    if "name" not in given:
        raise RecipeError(f"{where}: it lacks name (expected {{name = 'gptq', ...}})")
    _check_type(given["name"], str, f"{where}: name")
    for name, value in given.items():
        _check_type(value, (*PLAIN, list), f"{where}: {name}")
        if isinstance(value, list):
            _check_values(dict(enumerate(value)), PLAIN, f"{where}: {name}")
    return {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}


def _named(config: Scope) -> str:
    return FLOAT if config is None else config


def _config(name: str) -> Scope:
    return None if name == FLOAT else name


def _scopes(scopes: Mapping[str, Scope]) -> dict[str, str]:
    return {name: _named(config) for name, config in scopes.items()}


def _read_scopes(table: Mapping[str, Any], where: str) -> dict[str, Scope]:
    for name, each in table.items():
        if isinstance(each, Mapping):
            inner = f"{name}.{next(iter(each), '')}"
            raise RecipeError(
                f"{where}: {name} is a table (expected a string). Quote a name with dots: "
                f'"{inner}" = ...'
            )
    _check_values(table, str, where)
    return {name: _config(each) for name, each in table.items()}


def _calls(tables: Sequence[Any], where: str) -> dict[Address, Scope]:
    found: dict[Address, Scope] = {}
    for number, table in enumerate(tables):
        address, config = _call(table, f"{where}: call {number}")
        if address in found:
            raise RecipeError(f"{where}: call {number} is there before (expected it once)")
        found[address] = config
    return found


def _call(table: Any, where: str) -> tuple[Address, Scope]:
    if not isinstance(table, Mapping):
        raise RecipeError(f"{where} is {table!r} (expected a table [[calls]])")
    check_table(table, CALL, where)
    for name in CALL:
        if name not in table:
            raise RecipeError(f"{where}: it lacks {name} (expected {', '.join(CALL)})")
    return (table["module"], table["operator"], table["ordinal"]), _config(table["config"])


def check_table(data: Any, keys: Mapping[str, Any], where: str) -> None:
    """Raise for what is not a table of known keys, with values of the type of each.

    That is a ``RecipeError``, and ``UnknownNameError`` for an unknown key.
    """
    if not isinstance(data, Mapping):
        raise RecipeError(f"{where}: it is {data!r} (expected a table)")
    for name in data:
        if name not in keys:
            raise UnknownNameError(f"key of {where}", name, keys, "Correct the recipe.")
    for name, each in data.items():
        _check_type(each, keys[name], f"{where}: {name}")


def _check_values(table: Mapping[Any, Any], kind: Any, where: str) -> None:
    for name, each in table.items():
        _check_type(each, kind, f"{where}: {name}")


def _check_type(value: Any, kind: type | tuple[type, ...], where: str) -> None:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(dict.fromkeys(NAMES[each] for each in kinds))
        raise RecipeError(f"{where} is {value!r} (expected {wanted})")


NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "an array",
    dict: "a table",
}
