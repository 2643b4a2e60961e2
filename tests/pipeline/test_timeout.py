"""A runtime that hangs or crashes when a program is verified leaves this process as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from quantizing import Net
from quantizing import batches as made

import qreg
from qreg import Registry
from qreg.errors import CrashError, HangError, InputError

TOY = Path(__file__).parents[1] / "toy.py"
LOAD = "def load(program: bytes) -> Runner:\n"
WRITTEN = TOY.read_text(encoding="utf-8")
HANGING = WRITTEN.replace(LOAD, f"{LOAD}    import time\n    time.sleep(1000)\n")
CRASHING = WRITTEN.replace(LOAD, f"{LOAD}    import os\n    os.abort()\n")


def quantize(registry: Registry, timeout: Any) -> qreg.Result:
    data = made()
    return qreg.quantize(
        Net().eval(),
        data[0],
        backend="toy",
        calibration=data,
        timeout=timeout,
        registry=registry,
        progress=False,
    )


def test_a_runtime_that_hangs_is_an_error(distribution: Callable[..., Path]) -> None:
    distribution("qreg-toy", HANGING)
    with pytest.raises(HangError, match=r"has not run the program after 0\.5 s, and was ended"):
        quantize(Registry(load=["toy"]), 0.5)


def test_a_runtime_that_crashes_is_an_error_and_is_not_asked_again_here(
    distribution: Callable[..., Path],
) -> None:
    distribution("qreg-toy", CRASHING)
    with pytest.raises(CrashError, match="the runtime crashed on the program"):
        quantize(Registry(load=["toy"]), 600.0)


def test_a_program_in_time_is_verified_as_in_this_process(
    distribution: Callable[..., Path],
) -> None:
    distribution("qreg-toy", WRITTEN)
    registry = Registry(load=["toy"])
    there, here = (quantize(registry, each).verification for each in (600.0, None))
    assert here is not None
    assert there == here


@pytest.mark.parametrize("timeout", [0, "1"])
def test_a_timeout_is_a_number_of_seconds(registry: Registry, timeout: Any) -> None:
    with pytest.raises(InputError, match="expected seconds above 0"):
        quantize(registry, timeout)
