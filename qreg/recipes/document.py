"""Read and write the text of a recipe: TOML of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qreg.errors import RecipeError

HEADER = "A recipe of qreg: `qreg quantize model.pt2 --recipe {}` makes the program."
FIRST = ("schema", "backend", "config", "algorithms", "seed", "allow_float", "unknown_modules")


def parsed(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file. Raises ``RecipeError`` if it cannot be read."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        text = path.read_bytes().decode("utf-8")
        return dict(tomlkit.parse(text).unwrap())
    except OSError as cause:
        raise RecipeError(f"{path} cannot be read: {cause}") from cause
    except (UnicodeDecodeError, TOMLKitError) as cause:
        raise RecipeError(f"{path} is not TOML: {cause}") from cause


def dumped(values: Mapping[str, Any]) -> str:
    """Return values as TOML, the plain ones ahead of the tables."""
    import tomlkit

    document = tomlkit.document()
    document.add(tomlkit.comment(HEADER.format("recipe.toml")))
    plain = {name: each for name, each in values.items() if _is_plain(name, each)}
    tables = {name: each for name, each in values.items() if name not in plain}
    for name, each in (*plain.items(), *tables.items()):
        document.add(name, _inline(each) if name == "algorithms" else each)
    return tomlkit.dumps(document)


def _is_plain(name: str, value: Any) -> bool:
    return name in FIRST or isinstance(value, str)


def _inline(algorithms: Any) -> Any:
    """Return a list with its tables between braces, since keys follow that are not in a table."""
    import tomlkit

    if isinstance(algorithms, str):
        return algorithms
    array = tomlkit.array()
    for each in algorithms:
        if isinstance(each, str):
            array.append(each)
        else:
            table = tomlkit.inline_table()
            table.update(each)
            array.append(table)
    return array
