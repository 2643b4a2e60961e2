"""How many evaluations ``qreg.tune`` needs to meet a limit, on models with real weights.

``OMP_NUM_THREADS=1 python benchmarks/tuning.py [--backends xnnpack,onnxruntime,openvino]
[--models NAME ...] [--max-drop X] [--cache FOLDER] [--work FOLDER] [--json FILE]`` prints one row
for each model and backend. ``docs/accuracy.md`` lists the packages that hold the weights.

- metric: the first of the model's, on held-out data: in float, for the plain config, for the best
- evaluations: calls of the metric for programs, with the confirmation
- int8 MACs: the share of the multiply-accumulates of the best program that run in int8
- latency: of the best program to that of the plain config, each measured when it was made
- overhead: the share of the time that is not export, calibration, algorithms, lowering,
  verification, evaluation or the timing of programs
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accuracy import BACKENDS, TWINS
from attrs import asdict, frozen
from real import ZOO, Subject, make

import qreg
from qreg.errors import QregError
from qreg.plugins.registry import installed
from qreg.utils.tables import print_table
from qreg.utils.wording import percent


@frozen
class Row:
    """What the search gives for one model, for one backend."""

    model: str
    backend: str
    metric: str
    in_float: float | None = None
    plain: float | None = None
    best: float | None = None
    met: bool = False
    evaluations: int = 0
    kept: tuple[str, ...] = ()
    moved: int = 0
    int8: float | None = None
    latency: float | None = None
    seconds: float = 0.0
    overhead: float | None = None
    failure: str = ""

    def cells(self) -> dict[str, Any]:
        """Return the row as text."""
        return {
            "model": self.model,
            "backend": self.backend,
            "metric": self.metric,
            "float": _number(self.in_float),
            "plain": _number(self.plain),
            "best": _number(self.best),
            "verdict": self.failure[:60] or ("met" if self.met else "missed"),
            "evaluations": self.evaluations,
            "kept": list(self.kept),
            "moved": self.moved,
            "int8 MACs": "" if self.int8 is None else percent(self.int8),
            "latency": "" if self.latency is None else f"{self.latency:.2f}",
            "seconds": f"{self.seconds:.0f}",
            "overhead": "" if self.overhead is None else percent(self.overhead),
        }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def tuned(subject: Subject, backend: str, **options: Any) -> Row:
    """Search for a program of a model that meets the limit."""
    metric = subject.metrics[0]

    def evaluate(run: Any) -> float:
        return metric.measure(subject.outputs(run))

    tune = qreg.tune  # imports what all ways to quantize need, once in a process
    started = time.perf_counter()
    try:
        found = tune(
            subject.model,
            subject.example,
            calibration=subject.calibration[:32],
            evaluate=evaluate,
            lower_is_better=not metric.higher_is_better,
            backends=[backend],
            progress=False,
            **options,
        )
    except QregError as error:
        return Row(subject.name, backend, metric.name, failure=str(error))
    seconds = time.perf_counter() - started
    best, plain = found.best, found.trials[0]
    return Row(
        model=subject.name,
        backend=backend,
        metric=metric.name,
        in_float=found.float_metric,
        plain=plain.metric,
        best=None if best is None else best.metric,
        met=found.met,
        evaluations=found.evaluations,
        kept=() if best is None else best.kept,
        moved=0 if best is None else len(best.variant.moves),
        int8=None if best is None else best.int8_share,
        latency=_ratio(best, plain),
        seconds=seconds,
        overhead=max(0.0, 1 - _useful(found) / seconds),
    )


def _ratio(best: qreg.Trial | None, plain: qreg.Trial) -> float | None:
    if best is None or not best.milliseconds or not plain.milliseconds:
        return None
    return best.milliseconds / plain.milliseconds


def _useful(found: qreg.Tuned) -> float:
    """The seconds of the export, of the stages of trials, and of other evaluations."""
    stages = sum(sum(each.seconds.values()) for each in found.trials)
    return stages + sum(
        found.seconds.get(name, 0.0)
        for name in ("export", "evaluate float", "confirm", "time float")
    )


def rows(models: list[str], backends: list[str], given: Any) -> Iterator[Row]:
    """Yield a row for each model and backend."""
    for name in models:
        subject = make(name, given.cache)
        for backend in backends:
            work = given.work / f"{name}-{backend}" if given.work else None
            yield tuned(subject, backend, max_drop=given.max_drop, work=work)


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # of torch's exporter and of transformers
    known = [name for name in BACKENDS if name in installed().backends()]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", default="xnnpack", help=f"of {','.join(known)}")
    models = [name for name in ZOO if name not in TWINS]
    parser.add_argument("--models", nargs="+", default=models, choices=list(ZOO))
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--cache", type=Path, help="a folder that keeps models trained here")
    parser.add_argument("--work", type=Path, help="a folder that keeps the trials")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    given = parser.parse_args()
    found: list[Row] = []
    for row in rows(given.models, given.backends.split(","), given):
        found.append(row)
        print_table([row.cells()])
        if given.json:  # after each model: the whole takes long
            given.json.write_text(json.dumps([asdict(each) for each in found], indent=2))
    print_table([row.cells() for row in found])


if __name__ == "__main__":
    main()
