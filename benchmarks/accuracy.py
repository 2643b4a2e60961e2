"""What int8 costs models with real weights, by the quantizer: executorch's own, qreg's, NNCF's.

``OMP_NUM_THREADS=1 python benchmarks/accuracy.py [--backends xnnpack,onnxruntime,openvino]
[--models NAME ...] [--algorithms NAMES] [--nncf PYTHON] [--cache FOLDER] [--json FILE]`` prints one
row for each model and backend. A cell has the metrics on held-out data, and the SQNR in dB of
all outputs to the float ones. ``docs/accuracy.md`` lists the packages that hold the weights.

- executorch: ``XNNPACKQuantizer`` with torchao's prepare, folding and convert; the converted model
- qreg: the default static config; the program in the backend's runtime
- algorithms: the same with ``algorithms=NAMES`` (``auto``, or names with commas between)
- kept: the algorithms that improved held-back calibration batches
- nncf: ``nncf.quantize`` on an OpenVINO model, in the environment of the interpreter ``PYTHON``
- int8 MACs: the share of the multiply-accumulates of qreg's program that run in int8
- latency: the time of qreg's program with algorithms to that without, in turns
- seconds: to quantize, in the order of the columns
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, define, field
from real import ZOO, Subject, make
from real.quantizers import Found, by_executorch, by_nncf, by_qreg, in_float, latency_ratio

from qreg.errors import QregError
from qreg.plugins.registry import installed
from qreg.utils.tables import print_table

BACKENDS = ("xnnpack", "onnxruntime", "openvino")
# What the planted models were before, and one that scales of channels hardly help; only on request.
TWINS = ("vit", "bert", "crossing_bert")
SIDES = ("float", "executorch", "qreg", "algorithms", "nncf")


@define
class Row:
    """What the quantizers give for one model, for one backend."""

    model: str
    backend: str
    found: dict[str, Found] = field(factory=dict)
    latency: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values, without programs."""
        return {
            "model": self.model,
            "backend": self.backend,
            "latency": self.latency,
            **{
                side: asdict(found, filter=lambda each, _: each.name != "result")
                for side, found in self.found.items()
            },
        }

    def cells(self) -> dict[str, Any]:
        """Return the row as text; a list has the lines of a cell."""
        found = [self.found[side] for side in SIDES if side in self.found]
        metrics = next((each.metrics for each in found if each.metrics), {})
        shares = [f"{100 * each.int8:.0f} %" for each in found if each.int8 is not None]
        seconds = [f"{each.seconds:.0f}" for each in found if each.seconds is not None]
        return {
            "model": self.model,
            "backend": self.backend,
            "metric": [*metrics, "dB to float"],
            **{side: _lines(self.found.get(side)) for side in SIDES},
            "kept": [each.algorithm for side in found for each in side.tried if each.kept],
            "int8 MACs": ", ".join(dict.fromkeys(shares)),
            "latency": "" if self.latency is None else f"{self.latency:.2f}",
            "seconds": ", ".join(seconds),
        }


def _lines(found: Found | None) -> list[str]:
    if found is None:
        return []
    if found.failure:
        return ["fails"]
    ratio = [] if found.sqnr is None else [f"{found.sqnr:.1f}"]
    return [*(f"{value:.3f}" for value in found.metrics.values()), *ratio]


def measured(
    subject: Subject, backends: Sequence[str], algorithms: Any, nncf: str | None
) -> Iterator[Row]:
    """One row for each backend; executorch's own quantizer is for XNNPACK, NNCF for OpenVINO."""
    plain = in_float(subject)
    for backend in backends:
        row = Row(subject.name, backend, {"float": plain})
        if backend == "xnnpack":
            row.found["executorch"] = by_executorch(subject)
        row.found["qreg"] = by_qreg(subject, backend)
        if algorithms is not None:
            row.found["algorithms"] = by_qreg(subject, backend, algorithms)
            results = [row.found[side].result for side in ("algorithms", "qreg")]
            if None not in results:
                row.latency = latency_ratio(*results)
        if backend == "openvino" and nncf:
            row.found["nncf"] = by_nncf(subject, nncf)
        yield row
    if "openvino" not in backends and nncf:
        yield Row(subject.name, "openvino", {"float": plain, "nncf": by_nncf(subject, nncf)})


def failures(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return why cells are without numbers."""
    return [
        {"model": row.model, "backend": row.backend, "quantizer": side, "why": found.failure}
        for row in rows
        for side, found in row.found.items()
        if found.failure
    ]


def named(text: str) -> Any:
    """Return ``auto``, or a list of names from text with commas between."""
    return text if text == "auto" else [each for each in text.split(",") if each]


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # of torch's exporter and of transformers
    known = [name for name in BACKENDS if name in installed().backends()]
    models = [name for name in ZOO if name not in TWINS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", default="xnnpack", help=f"of {','.join(known)}")
    parser.add_argument("--models", nargs="+", default=models, choices=list(ZOO))
    parser.add_argument("--algorithms", type=named, help="auto, or names with commas between")
    parser.add_argument("--nncf", help="the interpreter of an environment with nncf")
    parser.add_argument("--cache", type=Path, help="a folder that keeps models trained here")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    given = parser.parse_args()
    rows: list[Row] = []
    for name in given.models:
        try:
            subject = make(name, given.cache)
        except QregError as error:
            parser.error(str(error))
        rows += measured(subject, given.backends.split(","), given.algorithms, given.nncf)
        if given.json:  # after each model: the whole takes long
            given.json.write_text(json.dumps([row.as_dict() for row in rows], indent=2))
    print_table([row.cells() for row in rows])
    print_table(failures(rows))


if __name__ == "__main__":
    main()
