"""The private names that the plugin reads are where they were, and say what they said."""

from __future__ import annotations

from typing import Any

import openvino
import pytest
import torch
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
from torch import nn
from torch.fx import GraphModule

from qreg.programs.export import export
from qreg_openvino.compat import (
    converted,
    decomposed,
    drop_fused_names,
    fx_node_names,
    layer,
    unconverted,
)
from qreg_openvino.passes import as_function


def graph_module(module: nn.Module, *shape: int) -> GraphModule:
    return as_function(decomposed(export(module.eval(), (torch.randn(shape or (4, 4)),))))


def model_of(module: nn.Module) -> Any:
    return converted(graph_module(module))


def test_operations_are_named_after_the_nodes_that_the_decoder_reads() -> None:
    read = graph_module(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    names = {name for each in converted(read).get_ops() for name in fx_node_names(each)}
    assert {"linear", "relu"} <= names
    assert names <= {node.name for node in read.graph.nodes}


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1.5 * self.conv(x)


def test_an_operation_that_replaces_several_tells_which_until_their_names_are_dropped() -> None:
    model = converted(graph_module(Scaled(), 1, 2, 4, 4))
    (conv,) = [each for each in model.get_ops() if each.get_type_name() == "Convolution"]
    assert {"convolution", "mul"} <= set(fx_node_names(conv))
    drop_fused_names(model)
    assert fx_node_names(conv) == []


def test_conversion_is_the_one_of_convert_model() -> None:
    read = graph_module(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    decoder = TorchFXPythonDecoder(read, dynamic_shapes=True)
    kinds = [
        [each.get_type_name() for each in model.get_ordered_ops()]
        for model in (converted(read), openvino.convert_model(decoder))
    ]
    assert kinds[0] == kinds[1]


def test_a_compiled_model_tells_its_kernels() -> None:
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(model_of(nn.Linear(4, 4)), "CPU", hint)
    told = [layer(each) for each in model.get_runtime_model().get_ordered_ops()]
    (product,) = [each for each in told if each["layerType"] == "FullyConnected"]
    assert product["primitiveType"].endswith("_f32")
    assert product["outputPrecisions"] == "f32"
    assert "linear/" in product["originalLayersNames"]


def test_openvino_says_which_operator_it_has_no_conversion_for() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.aten._linalg_eigh(x)[0]

    with pytest.raises(Exception, match=r"not fully converted|wasn't fully converted") as raised:
        model_of(Odd())
    assert unconverted(raised.value) == ["aten._linalg_eigh.default"]
