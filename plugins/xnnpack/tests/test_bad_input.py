"""Odd models and odd numbers: each works, or says what to do, before torchao would assert."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rows import Call
from torch import Tensor, nn

import qreg

ROW = torch.randn(2, 8)


def quantize(module: nn.Module, *inputs: Tensor, **options: Any) -> qreg.Result:
    return qreg.quantize(module, inputs, calibration=[inputs], **options)


def agrees(result: qreg.Result) -> bool:
    return all(each.sqnr > 30 for each in result.verification.to_converted)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_without_a_range_is_named(value: float) -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    with torch.no_grad():
        module[1].weight[0, 0] = value
    with pytest.raises(qreg.errors.InputError, match=r"'1.weight', a weight of aten.linear"):
        quantize(module, ROW)


def test_a_weight_without_a_range_is_no_matter_where_it_stays_float() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    with torch.no_grad():
        module[1].weight[0, 0] = float("inf")
    quantizer = qreg.get_quantizer("xnnpack").set_module_name("1", None)
    result = quantize(module, ROW, quantizer=quantizer, verify=False)
    assert result.decided == {"annotated": 1, "float": 1}


def test_a_tensor_as_both_operands_works() -> None:
    result = quantize(Call(lambda self, x: x * x + x), ROW)
    assert agrees(result)
    assert result.decided == {"annotated": 2}


def test_cat_of_a_tensor_with_itself_stays_float_and_says_so() -> None:
    module = Call(lambda self, x: self.linear(torch.cat([x, x], 1)), linear=nn.Linear(16, 4))
    result = quantize(module, ROW)
    assert agrees(result)
    assert "cat of one tensor with itself" in [decision.reason for decision in result.decisions]


def test_a_tensor_without_dimensions_works() -> None:
    module = nn.Module()
    module = Call(lambda self, x: (x * self.scale) + 1)
    module.scale = nn.Parameter(torch.tensor(0.5))
    result = quantize(module, ROW)
    assert agrees(result)
    assert result.decided == {"annotated": 2}


def test_a_half_precision_program_says_what_to_pass_instead() -> None:
    program = torch.export.export(nn.Linear(8, 4).half().eval(), (ROW.half(),))
    with pytest.raises(qreg.errors.InputError, match=r"in float16.*model\.float\(\)"):
        qreg.quantize(program, calibration=[(ROW.half(),)])


def test_an_empty_graph_says_that_it_is_empty() -> None:
    with pytest.raises(qreg.errors.NothingQuantizedError, match="the graph has no operators"):
        quantize(nn.Identity(), ROW)


def test_control_flow_stays_float_and_says_so_and_the_rest_is_quantized() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.linear(x)
            return torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,))

    result = quantize(Branching(), ROW)
    reasons = {decision.operator: decision.reason for decision in result.decisions}
    assert reasons["cond"] == "control flow: the operators in its branches stay in float"
    assert result.decided["annotated"] == 1
    assert agrees(result)


def test_a_model_in_train_mode_is_quantized_in_eval_mode_and_left_in_train_mode() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.9), nn.Linear(8, 4))
    result = quantize(module.train(), ROW)
    assert module.training
    assert module[2].training
    assert agrees(result)
    assert not [d for d in result.decisions if "batch_norm" in d.operator]


def test_a_dynamic_batch_runs_at_other_sizes() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    batches = [(torch.randn(n, 8),) for n in (2, 5, 3)]
    shapes = ({0: torch.export.Dim("batch", min=1, max=16)},)
    result = qreg.quantize(module, batches[0], calibration=batches, dynamic_shapes=shapes)
    assert agrees(result)
    run = qreg.plugins.registry.installed().backend("xnnpack").value.load(result.program)
    assert [run([torch.randn(n, 8)])[0].shape[0] for n in (1, 16)] == [1, 16]
