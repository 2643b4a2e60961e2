"""Freed memory goes back to the system, where the C library can do that."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

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


def test_nothing_is_done_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    memory._malloc_trim.cache_clear()
    try:
        memory.return_freed()
    finally:
        memory._malloc_trim.cache_clear()
