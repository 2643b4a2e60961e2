"""Pins how a NaN is traced to the operator that gave it first."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg import Registry
from qreg.analysis.interpreter import first_nan
from qreg.errors import CalibrationError, VerificationError
from qreg.graph.provenance import mark


class Root(nn.Module):
    """The square root of something linear: NaN for what is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2, bias=False)
        self.fc.weight.data = torch.eye(2)

    def forward(self, x: Tensor) -> Tensor:
        return (self.fc(x).sqrt() * 2).exp() + self.fc(x)


GOOD, BAD = torch.tensor([[1.0, 4.0]]), torch.tensor([[1.0, -4.0]])


def test_the_first_operator_is_named_and_not_those_that_pass_it_on(capture: Any) -> None:
    graph = capture(Root(), GOOD)
    mark(graph.graph)
    assert first_nan(graph, (BAD,)) == "sqrt"
    assert first_nan(graph, (GOOD,)) is None


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("histogram", "batch 1: sqrt is the first operator to return NaN"),
        # This observer accepts NaN, so the message names the first tensor that is observed.
        ("minmax", "the observer of exp saw NaN"),
    ],
)
def test_nan_in_calibration_is_an_error_that_names_the_operator(
    config: str, problem: str, registry: Registry
) -> None:
    with pytest.raises(CalibrationError, match=problem):
        qreg.quantize(
            Root(),
            GOOD,
            backend="toy",
            config=config,
            calibration=[GOOD, BAD],
            registry=registry,
            progress=False,
        )


def test_nan_in_the_outputs_is_an_error_that_names_the_operator(registry: Registry) -> None:
    with pytest.raises(VerificationError, match="sqrt, the first to return NaN") as caught:
        qreg.quantize(
            Root(),
            GOOD,
            backend="toy",
            config="dynamic",
            calibration=[BAD],
            registry=registry,
            progress=False,
        )
    assert "sqrt" in caught.value.suspects[0]
