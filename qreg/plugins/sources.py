"""Hashes of the code of plugins, which tell a plugin that was edited in place from before."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path


@functools.cache
def hash_of_code(module: str) -> str:
    """Return the SHA-256 of the Python files of the package, or the module, that a module is in.

    They are read once: what is edited while a process runs has no effect in it.
    """
    made = hashlib.sha256()
    for path in _files(module.partition(".")[0]):
        made.update(f"{path.name}\n".encode())
        made.update(path.read_bytes())
    return made.hexdigest()


def _files(package: str) -> Iterator[Path]:
    spec = find_spec(package)
    if spec is None:
        return
    for folder in spec.submodule_search_locations or ():
        yield from sorted(Path(folder).rglob("*.py"))
    if spec.submodule_search_locations is None and spec.origin:
        yield Path(spec.origin)
