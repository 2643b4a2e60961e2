"""The main job on real input: the digits example's network, in this backend."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import qreg
from qreg.plugins.registry import installed

SCRIPT = Path(__file__).parents[3] / "examples" / "digits" / "digits.py"


@pytest.fixture(scope="module")
def measured() -> tuple[qreg.Result, float, float]:
    """The result, and the accuracy in percent of the float model and of the program."""
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("x86_inductor_digits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    example: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    train, test, train_labels, test_labels = example.digits()
    model = example.train_model(train, train_labels)
    calibration = [(image.unsqueeze(0),) for image in train[:64]]
    result = qreg.quantize(
        model, (train[:1],), backend="x86_inductor", calibration=calibration, progress=False
    )
    run = installed().backend("x86_inductor").value.load(result.program)
    with torch.no_grad():
        in_float = accuracy(model, test, test_labels)
    return result, in_float, accuracy(lambda image: run([image])[0], test, test_labels)


def accuracy(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    scores = torch.cat([model(image.unsqueeze(0)) for image in images])
    return 100 * float((scores.argmax(1) == labels).float().mean())


def test_int8_is_within_a_point_of_float_on_held_out_images(measured: Any) -> None:
    _, in_float, in_int8 = measured
    assert in_float > 96
    assert abs(in_float - in_int8) <= 1


def test_every_convolution_and_linear_is_int8(measured: Any) -> None:
    result, *_ = measured
    weighted = [
        d.node for d in result.decisions if d.operator.startswith(("aten.conv", "aten.lin"))
    ]
    assert {result.audit.placements[name].place for name in weighted} == {"int8"}
    assert result.audit.defects == ()
