"""Calibration batches on disk, so that they can be read by other processes, and more than once."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from torch.utils import _pytree as pytree

from qreg.errors import InputError
from qreg.inputs.specs import flat
from qreg.jobs.packing import packed, unpacked
from qreg.jobs.running import is_configured

PREFIX = "qreg-calibration-"  # of temporary folders


@define
class Storage(Iterable[tuple[Any, ...]]):
    """A folder with a file for each batch: its tensors, in the order of the model's inputs.

    Iterating reads the batches, one at a time.
    """

    folder: Path
    files: list[Path] = field(factory=list, init=False)
    _structure: Any = field(default=None, init=False)

    def add(self, batch: tuple[Any, ...]) -> None:
        """Store a batch. Raises ``InputError`` if there is no room."""
        path = self.folder / f"{len(self.files)}.pt"
        try:
            path.write_bytes(packed(flat(batch)))
        except OSError as cause:
            raise InputError(
                f"calibration batch {len(self.files)}: {path} cannot be written: {cause.strerror} "
                "(expected room for all batches, which are read again). Name another folder in the "
                "environment variable TMPDIR, or pass fewer batches."
            ) from cause
        self.files.append(path)
        self._structure = pytree.tree_structure(batch)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for path in self.files:
            yield pytree.tree_unflatten(unpacked(path.read_bytes()), self._structure)

    def split(self, count: int) -> list[Sequence[Path | Contents]]:
        """Return the batches in ``count`` parts, the first of each in order; none is empty.

        Where ``joblib.parallel_config`` says where jobs run, the files travel to the workers.
        """
        files = [Contents(each) for each in self.files] if is_configured() else self.files
        return [files[first::count] for first in range(min(count, len(files)))]

    def number(self, file: Path | Contents) -> int:
        """Return the number of the batch in a file."""
        return self.files.index(file.path if isinstance(file, Contents) else file)


@frozen
class Contents:
    """A file that is pickled as its contents, which are read at that moment."""

    path: Path

    def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
        return bytes, (self.read_bytes(),)

    def read_bytes(self) -> bytes:
        return self.path.read_bytes()


@contextmanager
def stored() -> Iterator[Storage]:
    """Make an empty storage in a temporary folder, and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        yield Storage(Path(folder))


def temporary() -> Storage:
    """Make an empty storage in a temporary folder, which is removed with the storage."""
    made = Storage(Path(tempfile.mkdtemp(prefix=PREFIX)))
    weakref.finalize(made, shutil.rmtree, made.folder, ignore_errors=True)
    return made
