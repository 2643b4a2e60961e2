"""Lowered programs as files: one, or several side by side where the backend has it so."""

from __future__ import annotations

from pathlib import Path

from qreg.errors import InputError
from qreg.files import read_bytes, write_all_atomically
from qreg.model import Backend


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


def write_program(backend: Backend, path: Path, program: bytes) -> None:
    """Writes a program to a file, and what belongs beside it.

    Older files stay until all new ones are complete. Raises ``InputError`` if one cannot be
    written, or has another suffix than the programs of the backend.
    """
    parts = backend.files.split(program) if backend.files else {backend.suffix: program}
    write_all_atomically({each: parts[each.suffix] for each in paths(backend, path)})


def read_lowered(backend: Backend, path: Path) -> bytes:
    """Reads a program from a file, and what stands beside it.

    Raises ``InputError`` if one of the files is not there, or has another suffix.
    """
    parts = {each.suffix: read_bytes(each) for each in paths(backend, path)}
    return backend.files.join(parts) if backend.files else parts[backend.suffix]
