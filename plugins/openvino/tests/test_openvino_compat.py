"""The private names that the plugin reads are where they were, and say what they said."""

from __future__ import annotations

from typing import Any

import openvino
import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from qreg.programs.export import export
from qreg_openvino.compat import (
    WITHOUT_SNIPPETS,
    decoder,
    decomposed,
    fx_node_name,
    layer,
    unconverted,
)
from qreg_openvino.passes import as_function


def graph_module(module: nn.Module) -> GraphModule:
    return as_function(decomposed(export(module.eval(), (torch.randn(4, 4),))))


def converted(module: nn.Module) -> Any:
    return openvino.convert_model(decoder(graph_module(module)))


def test_operations_are_named_after_the_nodes_that_the_decoder_reads() -> None:
    read = graph_module(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    names = {fx_node_name(each) for each in openvino.convert_model(decoder(read)).get_ops()} - {""}
    assert {"linear", "relu"} <= names
    assert names <= {node.name for node in read.graph.nodes}


def test_a_compiled_model_tells_its_kernels() -> None:
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(converted(nn.Linear(4, 4)), "CPU", hint)
    told = [layer(each) for each in model.get_runtime_model().get_ordered_ops()]
    (product,) = [each for each in told if each["layerType"] == "FullyConnected"]
    assert product["primitiveType"].endswith("_f32")
    assert product["outputPrecisions"] == "f32"
    assert "linear/" in product["originalLayersNames"]


def test_the_plugin_has_the_setting_that_keeps_linear_layers_apart() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model = openvino.Core().compile_model(converted(module), "CPU", WITHOUT_SNIPPETS)
    kernels = [layer(each)["layerType"] for each in model.get_runtime_model().get_ordered_ops()]
    assert kernels.count("FullyConnected") == 2


def test_openvino_says_which_operator_it_has_no_conversion_for() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.aten._linalg_eigh(x)[0]

    with pytest.raises(Exception, match=r"not fully converted|wasn't fully converted") as raised:
        converted(Odd())
    assert unconverted(raised.value) == ["aten._linalg_eigh.default"]
