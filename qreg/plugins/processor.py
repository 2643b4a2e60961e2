"""The integer arithmetic of this machine's processor.

x86 processors with VNNI (AVX-512 VNNI or AVX-VNNI) multiply 8-bit values and accumulate in 32 bits.
Those without VNNI add each pair of products in 16 bits (``pmaddubsw``), which saturates as soon as
both factors use all of their 8 bits. Other architectures have no such instruction.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from qreg.errors import ConfigError

VNNI = "QREG_VNNI"  # the environment variable: "1" or "0"
INSTRUCTIONS = frozenset({"avx512_vnni", "avx_vnni"})  # as the kernel and torch spell them
X86 = frozenset({"x86_64", "amd64", "i386", "i686", "x86"})
PAIR_LIMIT = 2**15 - 1  # the largest sum of two products that pmaddubsw can hold
CPUINFO = Path("/proc/cpuinfo")


class SaturationWarning(UserWarning):
    """A config whose integer sums saturate on this processor."""


def has_vnni() -> bool:
    """Whether sums of 8-bit products are exact here: the processor has VNNI or is not x86.

    The environment variable ``QREG_VNNI`` (``1`` or ``0``) takes precedence, to lower for another
    processor. Raises ``ConfigError`` for any other value of the variable.
    """
    given = os.environ.get(VNNI, "")
    if given not in ("", "0", "1"):
        raise ConfigError(
            f"{VNNI}: the value is {given!r} (expected 0 or 1). Set one, or unset it."
        )
    return _detected() if given == "" else given == "1"


def described() -> str:
    """Return the architecture and the vector instructions of this processor, for reports."""
    import torch

    machine = platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    vnni = f", {'VNNI' if has_vnni() else 'no VNNI'}" if machine.lower() in X86 else ""
    return f"{machine} ({capability}{vnni})"


def overflows(activation: tuple[int, int], weight: tuple[int, int]) -> bool:
    """Whether a sum of two products can exceed 16 bits, by the ranges of both factors.

    The kernels shift activations to start at 0, so that their largest value is the width of their
    range: 255 * 127 * 2 overflows; 255 * 64 * 2 and 127 * 127 * 2 do not.
    """
    largest = max(abs(end) for end in weight)
    return 2 * (activation[1] - activation[0]) * largest > PAIR_LIMIT


@functools.cache
def _detected() -> bool:
    if platform.machine().lower() not in X86:
        return True
    return not INSTRUCTIONS.isdisjoint(_flags())


def _flags() -> Iterable[str]:
    """Return the names of the instruction sets.

    Listing must not import torch; the kernel's own list needs no import.
    """
    if "torch" not in sys.modules and CPUINFO.exists():
        found = re.search(r"^flags\s*:(.*)$", CPUINFO.read_text(encoding="utf-8"), re.MULTILINE)
        return found[1].split() if found else ()
    import torch

    return [name for name, there in torch.cpu.get_capabilities().items() if there]
