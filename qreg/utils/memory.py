"""Memory that the process does not need, but has not returned to the system.

glibc keeps what is freed below the end of its heap, which after the conversion of a large model is
as much as half of the model. Its ``malloc_trim`` returns whole pages from anywhere in the heap.

Weights that are mapped from a file stay resident after they were read, up to the whole file. The
kernel reads pages again that are written nowhere else, so it can be asked to drop them.
"""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from torch import Tensor

MAPPINGS = Path("/proc/self/maps")  # see proc_pid_maps(5)
OF_A_FILE = re.compile(r"^(\w+)-(\w+) \S+ \w+ \S+ (?!0 )\d+ ", re.MULTILINE)  # has an inode
LARGE = 256 * 2**20  # bytes, for which a collection is worth its time
PAGEOUT = 21  # MADV_PAGEOUT of madvise(2), since Linux 5.4: no page loses what was written to it


def collect_large(size: int) -> None:
    """Free objects that refer to each other, as the nodes of a graph do, if they are of this size.

    ``size`` is in bytes. Python frees them at some time later; that takes a tenth of a second.
    """
    if size >= LARGE:
        gc.collect()
        return_freed()


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
