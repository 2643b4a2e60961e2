"""Freed memory goes back to the system, where the C library can do that."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from qreg.utils import memory

PROGRAM = """
from qreg.utils.memory import return_freed

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

blocks = [bytearray(64 << 10) for _ in range(1600)]
pins = blocks[::100]  # so that the heap does not end with what is freed
full = resident()
del blocks
before = resident()
return_freed()
print(before - resident() > (full >> 2))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is glibc")
def test_freed_memory_is_returned() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert found.stdout == "True\n", found.stderr


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_what_refers_to_itself_is_freed_if_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LARGE", 100)
    alive = weakref.ref(Cycle())
    gc.disable()
    try:
        memory.collect_large(99)
        assert alive() is not None
        memory.collect_large(100)
        assert alive() is None
    finally:
        gc.enable()


def test_nothing_is_done_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    memory._from_c.cache_clear()
    try:
        memory.return_freed()
    finally:
        memory._from_c.cache_clear()


MAPPED = """
import torch
from qreg.utils.memory import return_mapped

def resident():
    with open("/proc/self/smaps_rollup") as file:
        return int(next(line for line in file if line.startswith("Rss")).split()[1]) << 10

size = 1 << 25
mapped = torch.from_file(PATH, size=size, dtype=torch.uint8)
mapped[0] = 7  # which is in memory alone
own = torch.ones(size, dtype=torch.uint8)
assert mapped.sum() == size + 6
before = resident()
return_mapped([mapped, own])
print(size * 0.9 < before - resident() < size * 1.1, int(mapped.sum()) == size + 6)
"""


@pytest.mark.skipif(not memory.MAPPINGS.exists(), reason="the system lists no mappings")
def test_files_are_read_again_where_their_tensors_are_used(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"\x01" * (1 << 25))
    with path.open("rb") as file:
        os.fsync(file)  # the kernel does not drop what is not yet written
    program = MAPPED.replace("PATH", repr(str(path)))
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout == "True True\n", found.stderr


FILED = (
    MAPPED.partition("size =")[0]
    + """
from qreg.utils.memory import in_a_file, return_filed

first = torch.arange(1 << 23).reshape(2, -1)
before = resident()
made = in_a_file(first)
held = resident() - before
read = torch.equal(made, first)
made += 1
grown = resident() - before
return_filed(made)
left = resident() - before
size = first.nbytes
print(held < size / 4, grown > size / 2, left < size / 4, torch.equal(made, first + 1))
"""
)
HAS_MADVISE = hasattr(ctypes.CDLL(None), "madvise")


@pytest.mark.skipif(not memory.MAPPINGS.exists(), reason="the system lists no mappings")
def test_tensors_in_files_are_in_memory_while_they_are_read(tmp_path: Path) -> None:
    command, env = [sys.executable, "-c", FILED], {**os.environ, "TMPDIR": str(tmp_path)}
    found = subprocess.run(command, capture_output=True, text=True, env=env)
    assert found.stdout == "True True True True\n", found.stderr
    assert not [*tmp_path.iterdir()]


def test_a_tensor_is_left_where_a_file_does_not_pay_or_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    small, large = torch.ones(8), torch.ones(1 << 19)
    assert memory.in_a_file(small) is small
    assert (memory.in_a_file(large) is large) == (not HAS_MADVISE)
    monkeypatch.setattr(memory.os, "posix_fallocate", full)
    assert memory.in_a_file(large) is large
    memory.return_filed(large)
    assert large.eq(1).all()


def test_a_tensor_stays_in_memory_where_no_file_can_be_reserved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)  # as on macOS
    large = torch.ones(memory.PAGED)
    assert memory.in_a_file(large) is large
