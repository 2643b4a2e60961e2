"""Lowered programs as files: one, or several side by side where the backend has it so."""

from __future__ import annotations

from pathlib import Path

from qreg.errors import InputError
from qreg.files import read_bytes, write_all_atomically
from qreg.model import Backend


def check_suffix(backend: Backend, path: Path) -> None:
    """Raises ``InputError`` for a name that the programs of a backend do not have."""
    if path.suffix != backend.suffix:
        raise InputError(
            f"{path} is no name for a program of backend {backend.name!r}: its files end with "
            f"{backend.suffix}, as in {path.with_suffix(backend.suffix).name}"
        )


def write_program(backend: Backend, path: Path, program: bytes) -> None:
    """Writes a program to a file, and what belongs beside it, in full or not at all."""
    parts = backend.files.split(program) if backend.files else {backend.suffix: program}
    write_all_atomically({path.with_suffix(suffix): part for suffix, part in parts.items()})


def read_lowered(backend: Backend, path: Path) -> bytes:
    """Reads a program from a file, and what stands beside it.

    Raises ``InputError`` if one of the files is not there or cannot be read.
    """
    if backend.files is None:
        return read_bytes(path)
    suffixes = (backend.suffix, *backend.files.beside)
    return backend.files.join({each: read_bytes(path.with_suffix(each)) for each in suffixes})
