"""The private names that the plugin uses are where they were seen."""

from __future__ import annotations

import inspect
import math
import os
from typing import Any

import torch
from torch import nn

from qreg_arm import compat


def test_the_quantizers_keys() -> None:
    assert compat.matched_key() == "quantizer_matched"
    assert compat.quantized_key() == "_arm_annotation_info"


def test_the_config_class_takes_what_it_is_given() -> None:
    fields = inspect.signature(compat.quantization_config_class()).parameters
    assert list(fields)[:4] == ["input_activation", "output_activation", "weight", "bias"]


def test_the_reference_model_is_there() -> None:
    assert os.access(compat.reference_model(), os.X_OK)


def test_the_names_that_are_replaced_are_used_where_they_are() -> None:
    from executorch.backends.arm._passes import decompose_quant_nodes, insert_table_ops
    from executorch.backends.arm._passes.rewrite_conv_pass import RewriteConvPass
    from executorch.backends.arm.operators import node_visitor
    from executorch.backends.arm.tosa import backend

    assert "aten.round.default" in inspect.getsource(decompose_quant_nodes)
    assert "create_node(" in inspect.getsource(decompose_quant_nodes.DecomposeQuantNodesPass.call)
    assert '"b_" + node.name + "_table_constant"' in inspect.getsource(insert_table_ops)
    conversion = inspect.getsource(RewriteConvPass._insert_output_conversion)
    assert "self._has_int32_rescale_user(node)" in conversion
    assert "DebugHook(" in inspect.getsource(backend)
    assert "json.dumps(debug_info.to_dict())" in inspect.getsource(node_visitor)


def test_they_are_put_back() -> None:
    from executorch.backends.arm.tosa import backend

    hook = backend.DebugHook
    with compat.traced_and_exact():
        assert backend.DebugHook is compat.OriginHook
    assert backend.DebugHook is hook


def test_tables_and_inputs_know_where_they_come_from(quantized: Any, call: Any) -> None:
    module = call(lambda m, a, b: (m.act(b), a + 1), act=nn.GELU())
    result = quantized(module, (2, 3), (2, 5))
    operators = {each.origin: each.operator for each in result.lowered.operators}
    assert operators["gelu"] == "TABLE"
    assert [each.sqnr for each in result.verification.to_converted] == [math.inf] * 2
    assert torch.is_tensor(result.samples[0][0])
