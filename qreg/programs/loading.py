"""Lowered programs as files: one file, or several for backends that need them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qreg.errors import InputError
from qreg.plugins.blame import blamed, call
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.backend import Backend
from qreg.programs.files import read_bytes
from qreg.utils.files import write_all_atomically


def paths(backend: Backend, path: Path) -> list[Path]:
    """Return the files that a program consists of, ``path`` first.

    Raises ``InputError`` if the suffix of ``path`` is not that of the backend's programs.
    """
    if path.suffix != backend.suffix:
        raise InputError(
            f"{path} is not a name for a program of backend {backend.name!r} (expected a name that "
            f"ends with {backend.suffix}, such as {path.stem or 'model'}{backend.suffix})"
        )
    beside = backend.files.beside if backend.files else ()
    return [path, *map(path.with_suffix, beside)]


def write_program(supplied: Supplied[Backend], path: Path, program: bytes) -> None:
    """Write a program of a supplied backend to a file, with the further files that it needs.

    Old files are kept until all new ones are complete. Raises ``InputError`` if a file cannot be
    written, and as :func:`contents_of`.
    """
    write_all_atomically(contents_of(supplied, path, program))


def contents_of(supplied: Supplied[Backend], path: Path, program: bytes) -> dict[Path, bytes]:
    """Return the files that a program consists of, with their contents.

    Raises ``InputError`` if the suffix of ``path`` is not that of the backend's programs, and
    ``PluginError`` if the plugin fails to split the program.
    """
    backend = supplied.value
    wanted = paths(backend, path)
    parts = {backend.suffix: program}
    if backend.files:
        parts = call(supplied, "Files.split", backend.files.split, program, expected=Mapping)
    missing = [each.suffix for each in wanted if not isinstance(parts.get(each.suffix), bytes)]
    if missing:
        raise blamed(supplied, "Files.split", f"it returned no bytes for {', '.join(missing)}")
    return {each: parts[each.suffix] for each in wanted}


def read_lowered(supplied: Supplied[Backend], path: Path) -> bytes:
    """Read a program of a supplied backend from a file, with the further files that it needs.

    Raises ``InputError`` if one of the files is missing, or if the suffix is not that of the
    backend's programs, and ``PluginError`` if the plugin fails to join the files.
    """
    return joined(supplied, {each: read_bytes(each) for each in paths(supplied.value, path)})


def joined(supplied: Supplied[Backend], contents: Mapping[Path, bytes]) -> bytes:
    """Return the program in the contents of its files, as :func:`contents_of` returns them.

    Raises ``PluginError`` if the plugin fails to join the files.
    """
    backend = supplied.value
    parts = {path.suffix: each for path, each in contents.items()}
    if backend.files is None:
        return parts[backend.suffix]
    found: bytes = call(supplied, "Files.join", backend.files.join, parts, expected=bytes)
    return found
