"""The private names that the plugin reads are where they were, and say what they said."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qreg.programs.export import export
from qreg_onnxruntime.compat import fx_node_name, untranslated


def exported(module: nn.Module) -> torch.onnx.ONNXProgram:
    program = export(module.eval(), (torch.randn(4, 4),))
    found = torch.onnx.export(program, dynamo=True, verbose=False)
    assert found is not None
    return found


def test_torch_notes_down_which_node_an_onnx_node_comes_from() -> None:
    nodes = exported(nn.Sequential(nn.Linear(4, 4), nn.ReLU())).model_proto.graph.node
    assert [fx_node_name(node) for node in nodes] == ["linear", "relu"]


def test_torch_says_which_operator_it_has_no_translation_for() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.aten._linalg_eigh(x)[0]

    with pytest.raises(torch.onnx.OnnxExporterError) as raised:
        exported(Odd())
    assert untranslated(raised.value) == ["aten._linalg_eigh.default"]
