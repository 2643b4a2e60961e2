"""Reports name the types that operators run on: weights of 4 bits are not called int8."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qreg
from qreg.report.model_explorer import node_data


@pytest.mark.parametrize(
    ("config", "precision"),
    [
        ("int8_dynamic_per_channel", "int8"),
        ("int4_dynamic_per_channel", "a8w4"),
        ("int8_weight_per_channel", "w8"),
        ("int4_weight_per_channel", "w4"),
    ],
)
def test_a_report_names_the_bits_of_weights(config: str, precision: str) -> None:
    torch.manual_seed(0)
    alone = precision.startswith("w")
    first = nn.Embedding(8, 32) if alone else nn.Linear(32, 16)
    model = nn.Sequential(first, nn.Sigmoid())
    x = torch.arange(8) if alone else torch.randn(4, 32)
    result = qreg.quantize(
        model.eval(), (x,), calibration=[(x,)], config=config, progress=False, min_sqnr=5.0
    )
    weighted, sigmoid = result.report.operators
    assert (weighted.place, weighted.precision, sigmoid.precision) == ("int8", precision, None)
    assert f"1 of 2 operators in {precision}" in str(result.report)
    values = node_data(result.report)["results"]
    assert values[weighted.name]["value"] == precision


def test_operators_on_the_qparams_of_their_input_have_its_precision() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4))
    report = qreg.explain(model.eval(), (torch.randn(1, 3, 8, 8),))
    assert {each.precision for each in report.operators} == {"int8"}
