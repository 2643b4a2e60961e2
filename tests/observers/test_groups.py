"""Pins that weights in groups are rounded as torchao's ``quantize_`` rounds them, bit for bit."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx import Graph, GraphModule
from torchao.quantization.granularity import PerGroup
from torchao.quantization.pt2e._affine_quantization import AffineQuantizedMinMaxObserver
from torchao.quantization.pt2e.observer import MappingType
from torchao.quantization.pt2e.quantizer import QuantizationConfig
from torchao.quantization.quant_primitives import dequantize_affine, quantize_affine

from qreg.algorithms.simulation import rounding
from qreg.backends.limits import ConfigLimits
from qreg.configs.factory import INT4, INT8, activation_spec
from qreg.configs.groups import group_size_of, groupwise_spec
from qreg.configs.validation import check
from qreg.errors import CalibrationError
from qreg.observers.fixed import with_range
from qreg.observers.groups import ConstantPerGroupMinMaxObserver
from qreg.observers.layout import by_qparams, spread
from qreg.observers.merging import range_of, set_range, why_not
from qreg.recipes.specs import config_of, config_table

torch.manual_seed(0)
WEIGHTS = {
    "normal": torch.randn(6, 96),
    "wide": torch.randn(6, 96) * torch.logspace(-6, 6, 96),
    "a group of zeros": torch.cat([torch.zeros(6, 32), torch.randn(6, 64)], 1),
    "positive": torch.rand(6, 96),
    "one row": torch.randn(1, 32),
}


def observer(size: int, *, signed: bool = False, **more: Any) -> ConstantPerGroupMinMaxObserver:
    spec = groupwise_spec(INT4, size, signed_scales=signed)
    given = {key: value for key, value in vars(spec).items() if "ctr" not in key}
    made: ConstantPerGroupMinMaxObserver = spec.observer_or_fake_quant_ctr(**{**given, **more})
    return made


def config(size: int = 32, **more: Any) -> Any:
    dynamic = activation_spec(INT8, is_dynamic=True)
    return QuantizationConfig(dynamic, None, groupwise_spec(INT4, size, **more), None, False)


def torchaos(weight: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The scales of torchao's observer, and the weight through torchao's primitives."""
    other = AffineQuantizedMinMaxObserver(
        MappingType.SYMMETRIC, torch.int8, PerGroup(size), quant_min=-8, quant_max=7
    )
    other(weight)
    scale, zero = other.calculate_qparams()
    codes = quantize_affine(weight, (1, size), scale, zero, torch.int8, -8, 7)
    return scale, dequantize_affine(codes, (1, size), scale, zero, torch.int8, -8, 7)


@pytest.mark.parametrize("size", [32, 16])
@pytest.mark.parametrize("name", WEIGHTS)
def test_scales_and_values_are_torchaos(name: str, size: int) -> None:
    weight = WEIGHTS[name]
    ours = observer(size)
    assert torch.equal(ours(weight), weight)
    scale, zero = ours.calculate_qparams()
    expected, values = torchaos(weight, size)
    assert torch.equal(scale, expected.reshape_as(scale))
    assert scale.shape == (len(weight), weight.shape[1] // size)
    assert not zero.any()
    assert torch.equal(rounding(ours)(weight), values)  # as algorithms simulate it


def test_converting_writes_torchaos_operators() -> None:
    weight = WEIGHTS["normal"]
    graph = Graph()
    seen = graph.call_module("seen", (graph.get_attr("weight"),))
    graph.output(seen)
    root = torch.nn.Module()
    root.register_buffer("weight", weight)
    root.seen = observer(32)
    model = GraphModule(root, graph)
    model()
    (call,) = (node for node in graph.nodes if node.op == "call_module")
    model.seen.convert(model, call)
    model.recompile()
    assert [str(n.target) for n in graph.nodes if n.op == "call_function"] == [
        "torchao.quantize_affine",
        "torchao.dequantize_affine",
    ]
    assert torch.equal(model(), torchaos(weight, 32)[1])


def test_a_weight_is_observed_once_and_not_without_values() -> None:
    ours = observer(32)
    with pytest.raises(CalibrationError, match="saw no value"):
        ours.calculate_qparams()
    ours(WEIGHTS["normal"])
    before = copy.deepcopy(ours.calculate_qparams())
    ours(2 * WEIGHTS["normal"])
    assert torch.equal(before[0], ours.calculate_qparams()[0])


def test_qparams_lie_along_the_rows_in_groups() -> None:
    ours = observer(2)
    weight = torch.tensor([[1.0, -3.0, 5.0, 2.0], [0.0, 0.0, 7.0, 7.5]])
    assert by_qparams(ours, weight).tolist() == [[[1, -3], [5, 2]], [[0, 0], [7, 7.5]]]
    qparams = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert spread(ours, qparams, weight).tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]
    ours(weight)
    assert ours.min_val.tolist() == [[-3, 2], [0, 7]]
    scale = torch.tensor([[3 / 7.5, 5 / 7.5], [2**-23, 1]])
    assert torch.equal(ours.calculate_qparams()[0], scale)


def test_signed_scales_use_the_whole_range_on_the_larger_side() -> None:
    ours = observer(2, signed=True)
    weight = torch.tensor([[1.0, -4.0, 4.0, 1.0], [0.0, 0.0, 4.0, -4.0]])
    ours(weight)
    scale, _ = ours.calculate_qparams()
    assert scale.tolist() == [[0.5, -0.5], [2**-23, 0.5]]  # of -8 to 7
    wanted = [[1.0, -4.0, 4.0, 1.0], [0.0, 0.0, 3.5, -4.0]]
    assert rounding(ours)(weight).tolist() == wanted


def test_signed_scales_of_many_values_cost_less() -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 256)
    errors = []
    for signed in (False, True):
        ours = observer(32, signed=signed)
        ours(weight)
        errors.append((rounding(ours)(weight) - weight).square().mean())
    assert errors[1] < 0.95 * errors[0]


@pytest.mark.parametrize("signed", [False, True])
def test_a_range_can_be_chosen(signed: bool) -> None:
    ours = observer(32, signed=signed)
    weight = WEIGHTS["normal"]
    ours(weight)
    fixed = with_range(ours, ours.min_val / 2, ours.max_val / 2)
    assert torch.equal(fixed.calculate_qparams()[0], ours.calculate_qparams()[0] / 2)
    fixed(10 * weight)
    assert torch.equal(fixed.calculate_qparams()[0], ours.calculate_qparams()[0] / 2)


def test_shards_find_the_ranges_that_one_process_finds() -> None:
    alone, merged = observer(32), observer(32)
    weight = WEIGHTS["normal"]
    alone(weight)
    assert why_not(merged) is None
    wanted = range_of(merged)
    found = wanted.merged([wanted.updated(None, weight), wanted.updated(None, weight)])
    assert found is not None
    set_range(merged, found)
    assert torch.equal(alone.calculate_qparams()[0], merged.calculate_qparams()[0])


@pytest.mark.parametrize("signed", [False, True])
def test_a_config_in_groups_is_valid_and_a_recipe_holds_it(signed: bool) -> None:
    given = check(config(64, signed_scales=signed))
    assert group_size_of(given.weight) == 64
    assert group_size_of(given.input_activation) is None
    again = config_of(config_table(given), "grouped")
    assert config_table(again) == config_table(given)
    assert group_size_of(again.weight) == 64


def test_a_runtime_without_groups_rejects_them() -> None:
    whole = dataclasses.replace(config(), weight=None)
    limits = ConfigLimits("the runtime", dynamic=("int8",))
    assert limits(whole) is None
    assert limits(config()) == (
        "its weights are in groups (expected a scale per channel or tensor for the runtime)"
    )
    assert ConfigLimits("the runtime", dynamic=("int8",), groups=True)(config()) is None
