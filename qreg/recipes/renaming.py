"""The files of a saved recipe, and the same under another name."""

from __future__ import annotations

from pathlib import Path

from qreg.errors import RecipeError
from qreg.recipes.document import dumped, parsed
from qreg.recipes.recipe import TENSORS


def is_whole(source: Path) -> bool:
    """Whether the files of a saved recipe are there, and the text can be read."""
    try:
        data = parsed(source)
    except RecipeError:
        return False
    return source.with_suffix(TENSORS).exists() or "record" not in data


def renamed_files(source: Path, stem: str) -> dict[str, bytes]:
    """Return the names and contents of the files of a saved recipe under another name.

    Its values are copied as they are. Raises ``RecipeError`` for files that cannot be read.
    """
    data = parsed(source)
    if "record" not in data:
        return {f"{stem}.toml": dumped(data).encode()}
    path, name = source.with_suffix(TENSORS), f"{stem}{TENSORS}"
    try:
        values = path.read_bytes()
    except OSError as cause:
        raise RecipeError(f"{path} cannot be read: {cause}") from cause
    record = {**data["record"], "file": name}
    return {name: values, f"{stem}.toml": dumped({**data, "record": record}).encode()}
