"""The programs of ``qreg.tune`` next to the models of NNCF's accuracy control, on OpenVINO.

``OMP_NUM_THREADS=1 python benchmarks/beside_nncf.py --ours FOLDER --theirs FOLDER [--json FILE]
[NAME ...]`` prints a row for each model that both have made: ``benchmarks/tuning.py --backends
openvino --work FOLDER`` and ``benchmarks/real/run_nncf_control.py --save FOLDER``, on the same
data and with the same limit.

- int8 MACs: the share of the multiply-accumulates in int8 kernels, counted in compiled models
- latency: of qreg's program to NNCF's model, and of both to the float model, on one thread. All
  three run in turns in one process; the least time of each counts, which other work spoils least.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import openvino
import torch
from attrs import asdict, frozen
from real import ZOO, Subject, make
from real.kernels import int8_share

from qreg.utils.tables import print_table
from qreg.utils.wording import percent

HINTS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
TURNS = 200


@frozen
class Row:
    """Two programs for one model. ``latency`` is that of qreg's divided by that of NNCF's."""

    model: str
    ours_int8: float
    theirs_int8: float
    latency: float
    ours_to_float: float
    theirs_to_float: float

    def cells(self) -> dict[str, str]:
        """Return the row as text."""
        return {
            "model": self.model,
            "int8 MACs, qreg": percent(self.ours_int8),
            "int8 MACs, NNCF": percent(self.theirs_int8),
            "latency, qreg to NNCF": f"{self.latency:.2f}",
            "qreg to float": f"{self.ours_to_float:.2f}",
            "NNCF to float": f"{self.theirs_to_float:.2f}",
        }


def beside(subject: Subject, ours: Path, theirs: Path) -> Row:
    """Compile both models and the float one, and run them in turns."""
    with torch.no_grad():
        exported = torch.export.export(subject.model, subject.example)
    in_float = openvino.convert_model(exported)
    core = openvino.Core()
    mine, other = (_static(core.read_model(path), subject) for path in (ours, theirs))
    compiled = [
        core.compile_model(mine, "CPU", HINTS),
        core.compile_model(other, "CPU", HINTS),
        core.compile_model(_static(in_float, subject), "CPU", HINTS),
    ]
    mine_s, other_s, float_s = _least(compiled, [each.numpy() for each in subject.example])
    shares = int8_share(mine, compiled[0]), int8_share(other, compiled[1])
    return Row(subject.name, *shares, mine_s / other_s, mine_s / float_s, other_s / float_s)


def _static(model: Any, subject: Subject) -> Any:
    """Return a model with the shapes of the example."""
    model.reshape(
        {port: list(each.shape) for port, each in zip(model.inputs, subject.example, strict=True)}
    )
    return model


def _least(compiled: list[Any], inputs: list[Any]) -> list[float]:
    """Return the least seconds of each model; they run in turns."""
    requests = [each.create_infer_request() for each in compiled]
    turns = [[_seconds(each, inputs) for each in requests] for _ in range(TURNS)]
    return [min(seconds) for seconds in zip(*turns, strict=True)]


def _seconds(request: Any, inputs: list[Any]) -> float:
    started = time.perf_counter()
    request.infer(inputs)
    return time.perf_counter() - started


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # of torch's exporter and of transformers
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(ZOO), metavar="NAME")
    parser.add_argument("--ours", type=Path, required=True)
    parser.add_argument("--theirs", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="a folder that keeps models trained here")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    given = parser.parse_args()
    rows = []
    for name in given.names:
        subject = make(name, given.cache)
        ours = given.ours / f"{name}-openvino" / "best.xml"
        theirs = given.theirs / f"{subject.name}.xml"
        if ours.exists() and theirs.exists():
            rows.append(beside(subject, ours, theirs))
    print_table([each.cells() for each in rows])
    if given.json:
        given.json.write_text(json.dumps([asdict(each) for each in rows], indent=2))


if __name__ == "__main__":
    main()
