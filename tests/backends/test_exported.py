"""What a lowering leaves as it is: read from the nodes of an exported program."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, export
from torchao.quantization.pt2e import quantize_pt2e  # noqa: F401  # quantized_decomposed

from qreg import Conversion, LoweredOperator
from qreg.backends.exported import (
    changed_inputs,
    conversion_of,
    float_conversions,
    float_operators,
    name_of,
)
from qreg.graph.provenance import mark

decomposed = torch.ops.quantized_decomposed


class Model(nn.Module):
    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        codes = decomposed.quantize_per_tensor.default(x.abs(), 0.1, 0, -128, 127, torch.int8)
        back = decomposed.dequantize_per_tensor.default(codes, 0.1, 0, -128, 127, torch.int8)
        return back.neg()[ids]


@pytest.fixture(scope="module")
def program() -> ExportedProgram:
    found = export(Model(), (torch.ones(3, 4), torch.tensor([1])))
    mark(found.graph)
    for node in found.graph.nodes:
        if "quantize" in node.name:
            del node.meta["custom"]
    return found


def test_operators_have_the_dtypes_that_they_read_and_give(program: ExportedProgram) -> None:
    assert list(float_operators(program.graph.nodes)) == [
        LoweredOperator("abs_1", "abs.default", False, None, ["float32"], ["float32"]),
        LoweredOperator("neg", "neg.default", False, None, ["float32"], ["float32"]),
        LoweredOperator("index", "index.Tensor", False, None, ["float32", "int64"], ["float32"]),
    ]


def test_conversions_have_the_operators_beside_them(program: ExportedProgram) -> None:
    assert list(float_conversions(program.graph.nodes)) == [
        Conversion("quantize", None, producers=("abs_1",), consumers=()),
        Conversion("dequantize", None, producers=(), consumers=("neg",)),
    ]


def test_a_conversion_is_known_by_its_name(program: ExportedProgram) -> None:
    kinds = {name_of(node): conversion_of(node) for node in program.graph.nodes}
    assert kinds["quantize_per_tensor.default"] == "quantize"
    assert kinds["dequantize_per_tensor.default"] == "dequantize"
    assert kinds["neg.default"] is None


def test_inputs_that_are_changed_in_place_are_counted() -> None:
    class Changing(nn.Module):
        def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
            x.add_(1)
            y.add_(1)
            return x + y + z

    given = tuple(torch.zeros(2) for _ in range(3))
    assert changed_inputs(export(Changing(), given).run_decompositions({})) == 2
    assert changed_inputs(export(nn.Identity(), given[:1])) == 0
