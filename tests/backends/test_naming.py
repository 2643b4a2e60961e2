"""Names of nodes lead back to the operators that the nodes come from."""

from __future__ import annotations

from typing import Any

import torch

from qreg.backends.naming import UniqueNames, not_converted, origin_in, output_names


def test_names_are_given_once_and_have_the_operator_in_them() -> None:
    names = UniqueNames()
    given = [names.name(*each) for each in [("conv", "Conv"), ("conv", "Conv"), (None, "Cast")]]
    assert given == ["conv::Conv", "conv::Conv_1", "Cast"]
    assert [names.name(None, "Cast"), names.name("conv", "Relu")] == ["Cast_1", "conv::Relu"]
    assert [origin_in(each) for each in (*given, "Cast_1")] == ["conv", "conv", None, None]


def test_one_output_has_no_number() -> None:
    assert output_names(1) == ["output"]
    assert output_names(2) == ["output_0", "output_1"]


def test_an_error_names_the_place_of_each_operator_without_a_conversion(capture: Any) -> None:
    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x).erfinv()

    graph = capture(Model(), torch.ones(2)).graph
    cause = RuntimeError("too big")
    assert str(not_converted("It", graph, ["aten.erfinv.default"], cause)) == (
        "It has no conversion for aten.erfinv.default (erfinv). Replace it with supported operators"
    )
    assert "for aten.gone.default. Replace" in str(
        not_converted("It", graph, ["aten.gone.default"], cause)
    )
    assert str(not_converted("It", graph, [], cause)) == "It does not convert the program: too big"
