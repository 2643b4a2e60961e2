"""The manifest of a bundle: what the folder holds, and the checksum of each file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from qreg.errors import BundleError

NAME = "bundle.json"
SCHEMA = 1  # incremented when an older qreg cannot use the bundle any more
REPORT, DATA, RECIPE = "report.json", "data.safetensors", "recipe.toml"
FILES = "files"
KINDS: Mapping[str, type | tuple[type, ...]] = {
    "backend": str,
    "model": str,
    "program": list,
    "lowered": dict,
    "options": dict,
    "inputs": list,
    "outputs": list,
    "arguments": dict,
    "returns": dict,
    "verification": dict,
    "without_recipe": (str, type(None)),
}


@frozen
class Manifest:
    """The plain values of a bundle, by the keys of ``KINDS``, and the SHA-256 of its files."""

    values: Mapping[str, Any]
    files: Mapping[str, str] = field(repr=False)

    def written(self) -> bytes:
        return json.dumps(
            {"schema": SCHEMA, **self.values, FILES: dict(self.files)}, indent=1
        ).encode()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a bundle.

    Raises ``BundleError`` for a folder without one, for one of a newer version, and for keys or
    values that a manifest does not have.
    """
    path = folder / NAME
    if not path.is_file():
        raise BundleError(
            f"{folder} is not a bundle: it has no file {NAME} (expected a folder that "
            "result.save_bundle wrote). Pass the path of the folder."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        schema = data["schema"]
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise damaged(path, f"it is not a manifest ({cause!r})") from cause
    if not isinstance(schema, int) or schema > SCHEMA:
        raise BundleError(
            f"{path}: the bundle has version {schema} (expected at most {SCHEMA}). Update qreg to "
            "read it."
        )
    for name, kind in {**KINDS, FILES: dict}.items():
        if not isinstance(data.get(name), kind):
            raise damaged(path, f"{name} is {data.get(name)!r}")
    return Manifest({name: data[name] for name in KINDS}, data[FILES])


def read_files(folder: Path, files: Mapping[str, str]) -> dict[str, bytes]:
    """Return the contents of the files of a bundle by name.

    Raises ``BundleError`` with the name of a file that is missing, or is not the one that the
    bundle was saved with.
    """
    found = {}
    for name, expected in files.items():
        path = folder / name
        if Path(name).name != name:
            raise damaged(
                folder / NAME, f"it lists {name!r} (expected names of files in its folder)"
            )
        try:
            found[name] = path.read_bytes()
        except OSError as cause:
            raise damaged(folder, f"its file {name} cannot be read: {cause.strerror}") from cause
        if digest(found[name]) != expected:
            raise damaged(folder, f"its file {name} was changed (its SHA-256 differs)")
    return found


def damaged(path: Path, problem: str) -> BundleError:
    return BundleError(f"{path}: {problem}. Copy the whole bundle again, or save it again.")
