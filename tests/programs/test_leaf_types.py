"""Pins that a type that torch.export cannot take apart is named with the way to register it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg import Registry
from qreg.errors import ExportError

X = torch.randn(2, 4)


@dataclasses.dataclass
class Scores:
    values: Tensor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)


class Returning(Net):
    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"found": Scores(self.linear(x))}


class Taking(Net):
    def forward(self, scores: Scores) -> Tensor:
        return self.linear(scores.values)


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (Returning(), X, r"The model returns a Scores, which is not a registered type\."),
        (Taking(), (Scores(X),), r"The example inputs hold a Scores, which is not a registered"),
    ],
)
@pytest.mark.parametrize("function", [qreg.explain, qreg.lower])
def test_a_type_that_is_not_registered_is_named(
    function: Any, model: nn.Module, example: Any, message: str, registry: Registry
) -> None:
    with pytest.raises(ExportError, match=rf"{message}.*torch\.export\.register_dataclass"):
        function(model, example, backend="toy", registry=registry)


def test_the_search_for_the_type_changes_nothing_of_the_model(registry: Registry) -> None:
    class Counting(Returning):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> dict[str, Any]:
            self.calls.add_(1)
            return super().forward(self.norm(x))

    model = Counting().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ExportError, match="not a registered type"):
        qreg.explain(model, X, backend="toy", registry=registry)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_another_error_of_the_model_is_its_own(registry: Registry) -> None:
    class Failing(Net):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("not on a Monday")

    with pytest.raises(ExportError, match="not on a Monday"):
        qreg.explain(Failing(), X, backend="toy", registry=registry)
