"""Quantize an OpenVINO model with NNCF and run it; a script for an environment without qreg.

``python run_nncf.py FOLDER`` reads ``model.xml``, ``facts.json`` and the arrays of
``calibration.npz`` and ``held_out.npz``, and writes ``outputs.npz`` and ``done.json``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino


def batches(path: Path) -> list[tuple[Any, ...]]:
    """Read the arguments of each batch, whose arrays are named by batch and place."""
    found: dict[int, dict[int, Any]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            number, place = map(int, name.split("."))
            found.setdefault(number, {})[place] = arrays[name]
    return [tuple(found[n][p] for p in sorted(found[n])) for n in sorted(found)]


def quantized(folder: Path) -> Any:
    """Quantize with NNCF's defaults, with a hint for transformers."""
    facts = json.loads((folder / "facts.json").read_text())
    return nncf.quantize(
        openvino.Core().read_model(folder / "model.xml"),
        nncf.Dataset(batches(folder / "calibration.npz")),
        subset_size=facts["samples"],
        model_type=nncf.ModelType.TRANSFORMER if facts["transformer"] else None,
    )


def main() -> None:
    folder = Path(sys.argv[1])
    started = time.perf_counter()
    model = quantized(folder)
    seconds = time.perf_counter() - started
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    held_out = batches(folder / "held_out.npz")
    outputs = {str(number): compiled(batch)[0] for number, batch in enumerate(held_out)}
    np.savez(folder / "outputs.npz", **outputs)
    (folder / "done.json").write_text(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
