"""The main job on real input: the digits network of the examples, on images that it never saw."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from attrs import frozen
from torch import Tensor

import qreg

EXAMPLES = Path(__file__).parents[3] / "examples" / "digits"
BATCH, IMAGES = 64, 320  # a TOSA program has one batch size


@frozen
class Outcome:
    """What each model gives for the images that were kept apart, and what they show."""

    result: qreg.Result
    labels: Tensor
    in_float: Tensor
    converted: Tensor
    in_int8: Tensor

    def accuracy(self, scores: Tensor) -> float:
        return 100 * float((scores.argmax(1) == self.labels).double().mean())


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """The digits network in float, converted, and in the reference model."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        from digits import digits, train_model
    finally:
        sys.path.remove(str(EXAMPLES))
    train, test, train_labels, labels = digits()
    model = train_model(train, train_labels, epochs=10)
    result = qreg.quantize(
        model,
        (train[:BATCH],),
        backend="arm",
        calibration=[(images,) for images in train[: 4 * BATCH].split(BATCH)],
        progress=False,
    )
    run = qreg.Registry().backend("arm").value.load(result.program)
    batches = test[:IMAGES].split(BATCH)
    with torch.no_grad():
        return Outcome(
            result=result,
            labels=labels[:IMAGES],
            in_float=model(test[:IMAGES]),
            converted=torch.cat([result.converted(images) for images in batches]),
            in_int8=torch.cat([run([images])[0] for images in batches]),
        )


def test_int8_is_within_a_point_of_float(outcome: Outcome) -> None:
    in_float, in_int8 = outcome.accuracy(outcome.in_float), outcome.accuracy(outcome.in_int8)
    assert in_float > 95
    assert abs(in_float - in_int8) <= 1


def test_the_reference_model_is_a_step_of_the_output_from_the_converted_model(
    outcome: Outcome,
) -> None:
    """TOSA's integers and torch's floats round a value between two steps to either of them."""
    steps = outcome.converted.unique().diff().min()
    assert (outcome.in_int8 - outcome.converted).abs().max() < 1.5 * steps
    assert (outcome.in_int8 == outcome.converted).double().mean() > 0.9


def test_every_operator_is_int8(outcome: Outcome) -> None:
    result = outcome.result
    assert result.audit is not None
    assert {each.place for each in result.audit.placements.values()} <= {"int8", "gone"}
    assert {each.status for each in result.decisions} <= {"annotated", "shared"}
