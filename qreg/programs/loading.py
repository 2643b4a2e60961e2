"""Lowered programs as files: one, or several side by side where the backend has it so."""

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
    """The files that a program of this name consists of, that itself first.

    Raises ``InputError`` for a name that the programs of a backend do not have.
    """
    if path.suffix != backend.suffix:
        raise InputError(
            f"{path} is no name for a program of backend {backend.name!r}: its files end with "
            f"{backend.suffix}, as in {path.stem or 'model'}{backend.suffix}"
        )
    beside = backend.files.beside if backend.files else ()
    return [path, *map(path.with_suffix, beside)]


def write_program(supplied: Supplied[Backend], path: Path, program: bytes) -> None:
    """Writes a program of a supplied backend to a file, and what belongs beside it.

    Older files stay until all new ones are complete. Raises ``InputError`` if one cannot be
    written, or has another suffix than the programs of the backend, and ``PluginError`` if the
    plugin fails to split the program.
    """
    backend = supplied.value
    wanted = paths(backend, path)
    parts = {backend.suffix: program}
    if backend.files:
        parts = call(supplied, "Files.split", backend.files.split, program, expected=Mapping)
    missing = [each.suffix for each in wanted if not isinstance(parts.get(each.suffix), bytes)]
    if missing:
        raise blamed(supplied, "Files.split", f"it returned no bytes for {', '.join(missing)}")
    write_all_atomically({each: parts[each.suffix] for each in wanted})


def read_lowered(supplied: Supplied[Backend], path: Path) -> bytes:
    """Reads a program of a supplied backend from a file, and what stands beside it.

    Raises ``InputError`` if one of the files is not there, or has another suffix, and
    ``PluginError`` if the plugin fails to join them.
    """
    backend = supplied.value
    parts = {each.suffix: read_bytes(each) for each in paths(backend, path)}
    if backend.files is None:
        return parts[backend.suffix]
    joined: bytes = call(supplied, "Files.join", backend.files.join, parts, expected=bytes)
    return joined
