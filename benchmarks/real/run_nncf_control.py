"""Quantize models with NNCF's accuracy control, and count the evaluations of the metric.

``PYTHONPATH=benchmarks python benchmarks/real/run_nncf_control.py [--max-drop X] [--save FOLDER]
NAME ...`` runs in an environment with nncf, openvino, torch and the packages of the models. It
prints a line for each model: the metric in float and in the result, the calls of the validation
function for quantized models, how often these calls ran all held-out batches, the share of the
operations that stay quantized, and seconds. With ``--save``, the result is ``FOLDER/NAME.xml``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nncf
import openvino
import torch

from real import Subject, make

PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}


def controlled(subject: Subject, max_drop: float, save: Path | None) -> dict[str, Any]:
    """Quantize a model with at most this relative drop of its first metric."""
    metric, runs = subject.metrics[0], list[int]()  # the batches of each call
    sign = 1 if metric.higher_is_better else -1

    def validate(compiled: Any, data: Iterable[Any]) -> tuple[float, None]:
        outputs = [torch.as_tensor(compiled(each)[0]) for each in data]
        runs.append(len(outputs))
        return sign * metric.measure(outputs), None

    program = torch.export.export(subject.model, subject.example)
    model = openvino.convert_model(program)
    dataset = [tuple(value.numpy() for value in each) for each in subject.calibration[:32]]
    held_out = [tuple(value.numpy() for value in each) for each in subject.held_out]
    kind = nncf.ModelType.TRANSFORMER if subject.is_transformer else None
    plain = _quantized(nncf.quantize(model, nncf.Dataset(dataset), model_type=kind))
    started = time.perf_counter()
    found = nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(dataset),
        nncf.Dataset(held_out),
        validation_fn=validate,
        max_drop=max_drop,
        drop_type=nncf.DropType.RELATIVE,
        model_type=kind,
    )
    seconds = time.perf_counter() - started
    if save:
        openvino.save_model(found, save / f"{subject.name}.xml", compress_to_fp16=False)
    compiled = openvino.compile_model(found, "CPU", PRECISION)
    outputs = [torch.as_tensor(compiled(each)[0]) for each in held_out]
    return {
        "float": round(metric.measure(subject.float_outputs()), 4),
        "result": round(metric.measure(outputs), 4),
        "evaluations": len(runs) - 1,  # the first is of the float model
        "passes": round(sum(runs[1:]) / len(held_out), 1),
        "quantizers": f"{_quantized(found)} of {plain}",
        "seconds": round(seconds),
    }


def _quantized(model: Any) -> int:
    return sum(each.get_type_name() == "FakeQuantize" for each in model.get_ops())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    logging.getLogger("nncf").setLevel(logging.ERROR)
    for name in given.names:
        found = controlled(make(name, given.cache), given.max_drop, given.save)
        sys.stdout.write(f"{json.dumps({'model': name, **found})}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
