"""The public surface of executorch's XNNPACKQuantizer, under the names its users know."""

from __future__ import annotations

import copy

import pytest
import torch
from rows import IMAGE, STATIC, Call, TwoConvs
from torch import nn
from torch.nn import functional as F
from torchao.quantization.pt2e.quantizer import Quantizer
from upstream import STOCK, UpstreamQuantizer, exported, points

import qreg
import qreg.configs.factory
from qreg_xnnpack import (
    OP_TO_ANNOTATOR,
    XNNPACKQuantizer,
    get_module_name_filter,
    get_module_type_filter,
    get_symmetric_quantization_config,
    propagate_annotation,
    scalars_to_attributes,
)

NAMES = [
    *("conv_bn_relu", "conv_bn", "conv_transpose_bn_relu", "conv_transpose_bn"),
    *("linear_relu", "linear", "conv_relu", "conv", "conv_transpose_relu", "conv_transpose"),
    *("adaptive_avg_pool2d", "gru_io_only", "max_pool2d", "add_relu", "add", "mul_relu"),
    *("mul", "cat"),
]


def test_the_table_has_every_name_users_know() -> None:
    assert set(NAMES) <= OP_TO_ANNOTATOR.keys()


def test_the_class_has_every_public_method_of_upstreams() -> None:
    public = {name for name in vars(UpstreamQuantizer) if not name.startswith("_")}
    data = {"supported_config_and_operators", "SUPPORTED_PATTERNS"}
    assert {name for name in public - data if not hasattr(XNNPACKQuantizer, name)} == set()


def test_it_is_the_registrys_quantizer_and_torchaos() -> None:
    quantizer = XNNPACKQuantizer()
    assert isinstance(quantizer, qreg.RegistryQuantizer)
    assert isinstance(quantizer, Quantizer)
    assert quantizer.backend == "xnnpack"


def test_it_starts_without_a_config() -> None:
    quantizer = XNNPACKQuantizer(allow_float=True)
    graph_module = quantizer.annotate(exported(TwoConvs(), (IMAGE,)))
    assert points(graph_module) == {}
    assert {decision.reason for decision in quantizer.decisions} == {"no config covers it"}


def test_the_setters_return_the_quantizer() -> None:
    quantizer = XNNPACKQuantizer()
    assert quantizer.set_global(STATIC) is quantizer
    assert quantizer.set_module_name("first", STATIC) is quantizer
    assert quantizer.set_module_type(nn.Conv2d, STATIC) is quantizer
    assert quantizer.set_operator_type(torch.ops.aten.conv2d.default, STATIC) is quantizer
    assert quantizer.set_filter_function(lambda node: True) is quantizer


def test_an_entry_of_the_table_annotates_a_graph_and_returns_the_partitions() -> None:
    graph_module = exported(TwoConvs(), (IMAGE,))
    partitions = OP_TO_ANNOTATOR["conv"](graph_module, STATIC, get_module_name_filter("first"))
    (partition,) = partitions
    assert [node.name for node in partition] == ["conv2d", "first_weight", "first_bias"]
    annotated = {point.rpartition("->")[2] for point in points(graph_module)}
    assert annotated == {"conv2d"}


def test_an_entry_of_the_table_annotates_nothing_without_a_config() -> None:
    graph_module = exported(TwoConvs(), (IMAGE,))
    assert OP_TO_ANNOTATOR["conv"](graph_module, None) == []
    assert points(graph_module) == {}


def test_the_gru_has_its_input_state_and_outputs_quantized() -> None:
    inputs = torch.randn(1, 3, 4), torch.randn(1, 1, 4)
    graph_module = exported(nn.GRU(4, 4, batch_first=True), inputs)
    (partition,) = OP_TO_ANNOTATOR["gru_io_only"](graph_module, STATIC)
    assert [node.name for node in partition] == ["gru", "getitem", "getitem_1"]
    assert set(points(graph_module)) == {"input_1->gru", "hx->gru", "getitem", "getitem_1"}


def test_the_gru_is_not_among_the_annotators_of_the_backend() -> None:
    assert "gru_io_only" not in [each.value.name for each in STOCK.annotators("xnnpack")]


def test_propagation_carries_parameters_through_a_chain() -> None:
    graph_module = exported(
        Call(
            lambda self, x: F.relu(self.conv(x) * 2).view(4, -1).transpose(0, 1),
            conv=nn.Conv2d(4, 4, 3),
        ),
        (IMAGE,),
    )
    graph_module = scalars_to_attributes(graph_module)
    OP_TO_ANNOTATOR["mul"](graph_module, STATIC)
    propagate_annotation(graph_module)
    shared = points(graph_module)["transpose"][1]
    assert {"mul", "relu", "view", "transpose"} <= shared


def test_scalars_become_attributes_of_the_dtype_of_the_result() -> None:
    module = Call(lambda self, x, ids: (x + 1.5, ids + 1))
    graph_module = scalars_to_attributes(exported(module, (IMAGE, torch.arange(4))))
    first, second = graph_module.graph.find_nodes(
        op="call_function", target=torch.ops.aten.add.Tensor
    )
    assert first.args[1].meta["val"].dtype == torch.float32
    assert second.args[1] == 1
    outputs = graph_module(IMAGE, torch.arange(4))
    torch.testing.assert_close(outputs[0], IMAGE + 1.5)
    assert outputs[1].dtype == torch.int64


def test_a_module_type_filter_finds_what_is_below_it() -> None:
    graph_module = exported(
        nn.Sequential(nn.Sequential(nn.Linear(4, 4)), nn.ReLU()), (torch.ones(1, 4),)
    )
    keep = get_module_type_filter(nn.Linear)
    calls = [node for node in graph_module.graph.nodes if node.op == "call_function"]
    assert [node.name for node in calls if keep(node)] == ["linear"]


@pytest.mark.parametrize("is_dynamic", [False, True])
def test_the_query_knows_an_equal_config_that_the_user_made(is_dynamic: bool) -> None:
    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=is_dynamic)
    rebuilt = qreg.configs.factory.config.__wrapped__(is_dynamic=is_dynamic)
    assert rebuilt is not config
    operators = XNNPACKQuantizer.get_supported_operator_for_quantization_config(rebuilt)
    assert [nn.Linear] in operators
    assert ([torch.add] in operators) is not is_dynamic


def test_the_query_for_none_gives_the_patterns_of_all_configs() -> None:
    query = XNNPACKQuantizer.get_supported_operator_for_quantization_config
    assert [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] in query(None)
    assert len(query(None)) > len(query("int8_dynamic_per_channel"))


@pytest.mark.parametrize("name", [None, "int8_static_per_channel", "int8_qat_per_tensor"])
def test_patterns_are_modules_and_functions_and_each_is_there_once(name: str | None) -> None:
    patterns = XNNPACKQuantizer.get_supported_operator_for_quantization_config(name)
    assert len({tuple(pattern) for pattern in patterns}) == len(patterns)
    for part in (part for pattern in patterns for part in pattern):
        assert callable(part)
        assert not isinstance(part, type) or issubclass(part, nn.Module)
    assert [F.pad, nn.Conv2d] in patterns
    assert [nn.ReLU] in patterns


def test_a_pattern_of_another_distribution_is_the_operator_of_its_target() -> None:
    from qreg_xnnpack.quantizer import _spelled

    other = qreg.Annotator(
        "other", ["aten.addmm.default", "nobodys.operator.default"], qreg.patterns.weighted()
    )
    assert _spelled(other) == [[torch.ops.aten.addmm.default]]


def test_every_config_has_one_entry_with_all_its_operators() -> None:
    configs = [config for config, _ in XNNPACKQuantizer.get_supported_operators()]
    assert configs == XNNPACKQuantizer.get_supported_quantization_configs()


def test_a_deep_copy_of_a_quantizer_annotates_alike() -> None:
    quantizer = XNNPACKQuantizer(registry=STOCK).set_global(STATIC)
    results = [
        points(each.annotate(exported(TwoConvs(), (IMAGE,))))
        for each in (quantizer, copy.copy(quantizer))
    ]
    assert results[0] == results[1] != {}
