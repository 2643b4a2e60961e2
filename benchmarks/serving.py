"""A program that runs when the process that started it asks, for ``benchmarks/engines.py``."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor


def serve(run: Callable[[], object], outputs: Sequence[Tensor], folder: Path, size: int) -> None:
    """Write the SQNR of the outputs and the size in bytes, then a run's milliseconds per line."""
    wanted = torch.load(folder / "outputs.pt", weights_only=True)
    _send({"sqnr": sqnr(wanted, outputs), "bytes": size})
    for _ in sys.stdin:
        started = time.perf_counter()
        run()
        _send((time.perf_counter() - started) * 1000)


def _send(value: object) -> None:
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


def sqnr(wanted: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """The signal-to-quantization-noise ratio in dB over all outputs."""
    pairs = list(zip(wanted, outputs, strict=True))
    signal = sum(float(each.double().square().sum()) for each, _ in pairs)
    noise = sum(float((one - other).double().square().sum()) for one, other in pairs)
    return 10 * math.log10(signal / noise) if noise else math.inf
