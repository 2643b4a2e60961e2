"""Memory that the process does not need, but has not returned to the system.

glibc keeps what is freed below the end of its heap, which after the conversion of a large model is
as much as half of the model. Its ``malloc_trim`` returns whole pages from anywhere in the heap.

Weights that are mapped from a file stay resident after they were read, up to the whole file. The
kernel reads pages again that are written nowhere else, so it can be asked to drop them.

Tensors that are large and seldom read can be put into temporary files.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from torch import Tensor

MAPPINGS = Path("/proc/self/maps")  # see proc_pid_maps(5)
OF_A_FILE = re.compile(r"^(\w+)-(\w+) \S+ \w+ \S+ (?!0 )\d+ ", re.MULTILINE)  # has an inode
LARGE = 256 * 2**20  # bytes, for which a collection is worth its time
PAGED = 2**20  # bytes, from which a tensor is worth a file
PREFIX = "qreg-values-"  # of temporary folders
DONTNEED = 4  # MADV_DONTNEED: what is shared with a file stays in the file
PAGEOUT = 21  # MADV_PAGEOUT of madvise(2), since Linux 5.4: no page loses what was written to it


def is_large(size: int) -> bool:
    """Whether so many bytes are worth what it takes to free them."""
    return size >= LARGE


def collect_large(size: int) -> None:
    """Free objects that refer to each other, as the nodes of a graph do, if they are of this size.

    ``size`` is in bytes. Python frees them at some time later; that takes a tenth of a second.
    """
    if is_large(size):
        gc.collect()
        return_freed()


def in_a_file(tensor: Tensor) -> Tensor:
    """Return a tensor of the same values in a temporary file, which is removed with the tensor.

    Returns a small tensor itself, and any if the file cannot be made or the system cannot drop
    pages. The file is in the folder for temporary files, and needs as many bytes as the tensor.
    """
    if tensor.nbytes < PAGED or tensor.device.type != "cpu" or not _can_map():
        return tensor
    try:
        made = _mapped(tensor)
    except OSError:  # such as a full disk
        return tensor
    made.copy_(tensor)
    return_filed(made)
    return_freed()  # of what computed it
    return made


def _can_map() -> bool:
    """Whether the system reserves the bytes of a file, as macOS does not, and drops its pages."""
    return hasattr(os, "posix_fallocate") and _from_c("madvise") is not None


def _mapped(tensor: Tensor) -> Tensor:
    import torch

    with TemporaryDirectory(prefix=PREFIX) as folder:
        path = Path(folder) / "values"
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, tensor.nbytes)  # a write may not find a full disk
        made = torch.from_file(str(path), shared=True, size=tensor.numel(), dtype=tensor.dtype)
    return made.reshape(tensor.shape)


def return_filed(tensor: Tensor) -> None:
    """Return the pages of a tensor that shares its memory with a file; do nothing for another."""
    storage = tensor.untyped_storage()
    if storage.filename is not None and (advise := _from_c("madvise")):
        advise(ctypes.c_void_p(storage.data_ptr()), ctypes.c_size_t(storage.nbytes()), DONTNEED)


def return_freed() -> None:
    """Return freed memory to the system, in milliseconds; do nothing without glibc."""
    if trim := _from_c("malloc_trim"):
        trim(0)


def return_mapped(tensors: Iterable[Tensor]) -> None:
    """Return the pages of the files that tensors are mapped from; do nothing outside Linux.

    The values are read from the file again when they are used. Other memory is left alone.
    """
    advise = _from_c("madvise")
    if not advise or not MAPPINGS.exists():
        return
    starts = {each.untyped_storage().data_ptr() for each in tensors if each.device.type == "cpu"}
    for mapping in _of_files():
        if any(each in mapping for each in starts):
            advise(ctypes.c_void_p(mapping.first), ctypes.c_size_t(mapping.size), PAGEOUT)


@frozen
class _Mapping:
    """The addresses that a file is mapped to, ``first`` and those up to ``end``."""

    first: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.first

    def __contains__(self, address: int) -> bool:
        return self.first <= address < self.end


def _of_files() -> Iterator[_Mapping]:
    for found in OF_A_FILE.finditer(MAPPINGS.read_text()):
        yield _Mapping(*(int(each, 16) for each in found.groups()))


@cache
def _from_c(name: str) -> Any:
    """Return a function of the C library, None if it has no such function."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # TypeError: Windows has no library of the process itself
        return None
