"""The operators and conversions that are read back from a program are those that it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import qreg
from qreg import Conversion, LoweredOperator
from qreg_xnnpack import compat


class Net(nn.Module):
    """Padding, a convolution with a clamp, a softmax between linears, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.image = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(3, 8, 3), nn.ReLU6())

    def forward(self, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.second(self.first(x).softmax(-1)), self.image(image).flatten(1)


SHAPES = ((2, 16), (1, 3, 8, 8))


def operators(result: qreg.Result) -> dict[str | None, LoweredOperator]:
    assert result.lowered.operators is not None
    return {each.origin: each for each in result.lowered.operators if each.origin}


def test_operators_and_their_datatypes_are_those_of_xnnpacks_graph(quantized: Any) -> None:
    found = operators(quantized(Net(), *SHAPES))
    weighted = ("qint8", "qcint8", "qcint32"), ("qint8",)
    assert {name: (each.operator, each.int8) for name, each in found.items()} == {
        "linear": ("XNNFullyConnected", True),
        "softmax": ("XNNSoftmax", False),
        "linear_1": ("XNNFullyConnected", True),
        "pad": ("XNNStaticConstantPad", True),
        "conv2d": ("XNNConv2d", True),
        "hardtanh": ("within XNNConv2d", True),
        "flatten": ("XNNStaticReshape", True),
    }
    assert {(each.reads, each.gives) for n, each in found.items() if n in ("linear", "conv2d")} == {
        weighted
    }
    assert {each.delegate for each in found.values()} == {0}


def test_dynamic_operators_read_what_is_quantized_on_the_way(quantized: Any) -> None:
    result = quantized(Net(), *SHAPES, config="int8_dynamic_per_channel")
    found = operators(result)
    assert (found["linear"].reads, found["linear"].gives) == (
        ("qdint8", "qcint8", "fp32"),
        ("fp32",),
    )
    assert found["linear"].int8
    assert not found["conv2d"].int8
    assert not found["hardtanh"].int8


def test_a_float_program_has_no_int8_operator() -> None:
    torch.manual_seed(0)
    net = Net().eval()
    lowered = qreg.lower(net, tuple(torch.randn(shape) for shape in SHAPES))
    assert lowered.operators is not None
    assert not any(each.int8 for each in lowered.operators)
    assert lowered.conversions == ()


def test_conversions_are_those_at_the_borders_of_int8(quantized: Any) -> None:
    result = quantized(Net(), *SHAPES)
    assert sorted(result.lowered.conversions, key=str) == sorted(
        [
            Conversion("quantize", 0, (), ("linear",)),
            Conversion("dequantize", 0, ("linear",), ("softmax",)),
            Conversion("quantize", 0, ("softmax",), ("linear_1",)),
            Conversion("dequantize", 0, ("linear_1",), ()),
            Conversion("quantize", 0, (), ("pad",)),
            Conversion("dequantize", 0, ("flatten",), ()),
        ],
        key=str,
    )
    assert result.audit.leftover == ()
    (split,) = result.audit.splits
    assert (split.operators, split.producers, split.consumers) == (
        ("softmax",),
        ("linear",),
        ("linear_1",),
    )


class Outside(nn.Module):
    """A cumulative sum, which the delegate does not take, between two linears."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).cumsum(1))


def test_what_the_delegate_does_not_take_is_outside(quantized: Any) -> None:
    result = quantized(Outside(), (2, 16))
    assert result.lowered.delegates == 2
    places = {name: each.place for name, each in result.audit.placements.items()}
    assert places == {"linear": "int8", "cumsum": "outside", "linear_1": "int8"}
    assert [result.audit.placements[name].delegate for name in places] == [0, None, 1]
    (split,) = result.audit.splits
    assert split.operators == ("cumsum",)


def test_a_float_operator_at_the_end_of_a_delegate_is_in_it(quantized: Any) -> None:
    """What a delegate gives out is picked from its call, which is no operator."""

    class Softmax(Outside):
        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).softmax(-1).cumsum(1))

    for config in ("default", "int8_dynamic_per_channel"):
        placements = quantized(Softmax(), (2, 16), config=config).audit.placements
        assert (placements["softmax"].place, placements["softmax"].operator) == (
            "float",
            "XNNSoftmax",
        )
        assert placements["cumsum"].place == "outside"
        assert placements["linear"].place == placements["linear_1"].place == "int8"


def test_delegates_are_numbered_as_they_are_called(quantized: Any) -> None:
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x).cumsum(1)
            return x

    result = quantized(Many(), (2, 8))
    found = operators(result)
    linears = sorted(name for name in found if name and name.startswith("linear"))
    assert [found[name].delegate for name in linears] == [0, 1, 2, 3]
    assert {found[name].int8 for name in linears} == {True}


def test_unbounded_clamps_are_read_too(quantized: Any) -> None:
    found = operators(quantized(nn.Sequential(nn.Linear(16, 8), nn.ReLU()), (2, 16)))
    assert found["relu"].operator == "within XNNFullyConnected"


def test_the_private_names_of_executorch_are_where_they_were(
    quantized: Callable[..., qreg.Result],
) -> None:
    program = quantized(nn.Linear(16, 8), (2, 16)).program
    described = compat.program_of(program)
    (payload,) = described.backend_delegate_data
    graph = compat.graph_of(bytes(payload.data))
    kinds = [node["xnode_union_type"] for node in graph["xnodes"]]
    assert kinds == ["XNNConvert", "XNNFullyConnected", "XNNConvert"]
    assert compat.planned_memory(program) > 0
