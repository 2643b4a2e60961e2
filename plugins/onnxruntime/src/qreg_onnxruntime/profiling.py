"""The run time of each operator of a program, as measured by ONNX Runtime."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qreg.backends.inputs import TensorSpec
from qreg.backends.naming import origin_in

if TYPE_CHECKING:
    from torch.export import ExportedProgram

ROUNDS = 20
MICROSECONDS = 1e-6
KERNEL = "_kernel_time"


def profile(program: ExportedProgram) -> dict[str, float]:
    """Return the seconds of each operator, by its origin.

    The time is that of the fastest of several runs, because slower runs include the time of other
    processes. Fused operators are timed together, under the origin of the first.
    """
    from qreg_onnxruntime.lowering import lower

    found: dict[str, float] = defaultdict(float)
    for name, times in _measured(lower(program).program).items():
        origin = origin_in(name)
        if origin is not None:
            found[origin] += min(times) * MICROSECONDS
    return dict(found)


def _measured(model: bytes) -> dict[str, list[int]]:
    """Return the microseconds of each run of each kernel, by its name."""
    from qreg_onnxruntime.runtime import session

    with tempfile.TemporaryDirectory() as folder:
        prefix = str(Path(folder) / "profile")
        loaded = session(model, enable_profiling=True, profile_file_prefix=prefix)
        specs = {each.name: TensorSpec.of(each.type, each.shape) for each in loaded.get_inputs()}
        feed = {name: spec.example().numpy() for name, spec in specs.items()}
        for _ in range(ROUNDS):
            loaded.run(None, feed)
        events = json.loads(Path(loaded.end_profiling()).read_text())
    return _kernels(events)


def _kernels(events: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    times: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            times[event["name"].removesuffix(KERNEL)].append(event["dur"])
    return times
