"""The private names that the plugin reads are where they were, and say what they said."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

import qreg
from qreg.plugins.registry import installed
from qreg.programs.export import export
from qreg_onnxruntime.compat import fx_node_name, translations_read_once, untranslated


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


def test_a_program_is_the_same_with_a_table_that_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module, reads = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Softmax(-1)), []
    wanted = exported(module).model_proto
    own = ONNXRegistry.from_torchlib
    noted = lambda opset_version: reads.append(opset_version) or own(opset_version)  # noqa: E731
    monkeypatch.setattr(ONNXRegistry, "from_torchlib", noted)
    monkeypatch.setattr("qreg_onnxruntime.compat.TABLES", {})
    for _ in range(2):
        with translations_read_once():
            assert exported(module).model_proto == wanted
    assert len(reads) == 1


def test_a_table_is_read_again_when_operators_were_registered() -> None:
    with translations_read_once():
        before = ONNXRegistry.from_torchlib(18)
        with torch.library._scoped_library("qreg_onnxruntime_tests", "DEF") as library:
            library.define("later(Tensor x) -> Tensor")
            after = ONNXRegistry.from_torchlib(18)
        again = ONNXRegistry.from_torchlib(18)
    relu = "aten::relu"
    assert before.functions[relu][0] is again.functions[relu][0]
    assert before.functions[relu][0] is not after.functions[relu][0]


def test_an_export_adds_to_no_table_but_its_own() -> None:
    with translations_read_once():
        first = ONNXRegistry.from_torchlib(18)
        first.register_op(torch.ops.aten.relu.default, lambda x: x)
        second = ONNXRegistry.from_torchlib(18)
    found = [each.functions["aten::relu"] for each in (first, second)]
    assert len(found[0]) == len(found[1]) + 1
    assert isinstance(vars(ONNXRegistry)["from_torchlib"], classmethod)


class Attention(nn.Module):
    """Attention as T5 has it: its result is reshaped before its heads are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.out = nn.Linear(32, 32), nn.Linear(32, 32)
        self.biases = nn.Embedding(5, 4)  # of the distance of two positions

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.query(x).view(1, -1, 4, 8).transpose(1, 2)
        distance = (torch.arange(5)[:, None] - torch.arange(5)).abs()
        bias = self.biases(distance).permute(2, 0, 1)[None]
        y = nn.functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=bias)
        joined = y.reshape(1, 4, 5, 8).transpose(1, 2).contiguous().reshape(1, 5, -1).contiguous()
        return self.out(joined)  # type: ignore[no-any-return]


def test_a_view_of_an_attention_has_the_strides_that_torch_computes_last() -> None:
    model, x = Attention().eval(), torch.randn(1, 5, 32)
    program = export(model, (x,)).run_decompositions({})
    with pytest.raises(torch.onnx.OnnxExporterError, match="Cannot view"):
        torch.onnx.export(program, dynamo=True, verbose=False)
    lowered = qreg.lower(program, backend="onnxruntime")
    run = installed().backend("onnxruntime").value.load(lowered.program)
    torch.testing.assert_close(run([x])[0], model(x), atol=1e-5, rtol=1e-4)
