"""A part of a model that works is not suspected: it ends where the delegate has no half pattern."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

import qreg
from qreg.analysis.bisection import Search, suspect
from qreg.analysis.parts import ends, up_to
from qreg.errors import LoweringError
from qreg.plugins.registry import installed
from qreg.programs.lowering import target

MODELS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "a convolution and a relu": (nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), (1, 4, 8, 8)),
    "padding, a convolution and a clamp": (
        nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(4, 4, 3), nn.ReLU6(), nn.Conv2d(4, 4, 1)),
        (1, 4, 8, 8),
    ),
    "linears around a softmax": (
        nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Softmax(-1), nn.Linear(16, 4)),
        (3, 16),
    ),
}


CONFIGS = (
    "int8_static_per_channel",
    pytest.param("int8_dynamic_per_channel", marks=pytest.mark.slow),
)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", MODELS)
def test_every_part_of_a_working_model_works(name: str, config: str, quantized: Any) -> None:
    module, shape = MODELS[name]
    result: qreg.Result = quantized(module, shape, config=config, allow_float=True)
    registry = installed()
    search = Search(
        target(registry, "xnnpack").lower,
        registry.backend("xnnpack").value.load,
        10 if "dynamic" in config else 20,
    )
    cuts = ends(result.converted, result.decisions)
    assert cuts
    samples = [tuple(sample) for sample in result.samples]
    assert all(search.works(up_to(result.converted, end), samples) for end in cuts)
    assert suspect(result.converted, result.decisions, samples, search).operators == ()


class Cell(nn.Module):
    """A scan over rows, with a linear in its body and one around it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        def step(state: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
            new = state + row
            return new, new * 2

        _, rows = scan(step, torch.zeros(8), self.linear(x))
        return self.linear(rows)


def test_the_operators_of_a_scan_are_told_from_those_around_it() -> None:
    report = qreg.explain(Cell(), (torch.randn(5, 8),), progress=False)
    names = [each.name for each in report.operators]
    assert len(set(names)) == len(names)
    inside = [name for name in names if "." in name]
    assert any(name.endswith(".add") for name in inside)
    assert {"linear", "linear_1"} <= set(names)


class Table(nn.Module):
    """A row of a table at a counted position: executorch 1.4.1 does not lower the selection."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.table = nn.Linear(8, 8), nn.Parameter(torch.randn(4, 8))
        self.count = nn.Buffer(torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x) + self.table[self.count % 4]
        self.count.add_(1)
        return y


def test_no_scope_is_offered_where_the_float_model_fails_too() -> None:
    batches = [(torch.randn(2, 8),) for _ in range(4)]
    with pytest.raises(LoweringError):
        qreg.lower(Table().eval(), batches[0])
    with pytest.raises(LoweringError, match=r"float model fails .* Change the model") as caught:
        qreg.quantize(Table().eval(), batches[0], calibration=batches, progress=False)
    assert caught.value.suspects
    assert "quantizer.set_" not in str(caught.value)
