"""Every pattern in the runtime: integer kernels by its own account, and the right numbers."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from cases_openvino import CASES, IMAGE, TOKENS, Between, Call, conv, two
from side_by_side import Table
from torch import nn
from torch.nn import functional

import qreg
from qreg.configs.factory import INT8, REDUCED_INT8, UINT8, config
from qreg_openvino.compat import layer
from qreg_openvino.runtime import compiled_model


class Shared(nn.Module):
    """A value of both signs, read by a convolution and by a transposed one."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.plain, self.transposed = conv(), conv(), nn.ConvTranspose2d(4, 4, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.before(x)
        return self.plain(y) + self.transposed(y)


# Covered by the conformance kit, which takes the case of an annotator's own name.
VARIANTS = [name for name in CASES if " " in name]


@pytest.fixture(scope="module")
def variants(quantized: Any) -> Table:
    return Table({name: CASES[name] for name in VARIANTS}, quantized)


@pytest.mark.parametrize("case", VARIANTS)
def test_the_program_computes_in_integers_and_agrees(case: str, variants: Table) -> None:
    share = variants[case]
    assert not share.defects
    assert all(decision.quantized for decision in share.decisions)
    assert share.to_converted[0].sqnr > 35
    assert share.to_float[0].sqnr > 25


@pytest.mark.parametrize(
    ("module", "shape", "operator", "reason"),
    [
        (
            nn.Sequential(conv(), nn.MaxPool2d(2, 1, dilation=2), conv()),
            IMAGE,
            "aten.max_pool2d.default",
            "with dilation",
        ),
        (
            nn.Sequential(conv(), nn.ConvTranspose2d(4, 4, 3, groups=2)),
            IMAGE,
            "aten.conv_transpose2d.input",
            "in groups",
        ),
        (
            nn.Sequential(conv(), nn.ConvTranspose2d(4, 4, 3, dilation=2)),
            IMAGE,
            "aten.conv_transpose2d.input",
            "with dilation",
        ),
        (
            nn.Sequential(conv(), nn.ConvTranspose2d(4, 4, 2, 3)),
            IMAGE,
            "aten.conv_transpose2d.input",
            "adds no bias",
        ),
        (
            Shared(),
            IMAGE,
            "aten.conv_transpose2d.input",
            "has a zero point",
        ),
        (two(torch.add), IMAGE, "aten.add.Tensor", "no annotator"),
        (
            Between(lambda x: functional.adaptive_avg_pool2d(x, 2)),
            IMAGE,
            "aten.adaptive_avg_pool2d.default",
            r"the kernel requires \[1, 1\]",
        ),
        (
            Between(lambda x: functional.avg_pool2d(x, 3, ceil_mode=True)),
            IMAGE,
            "aten.avg_pool2d.default",
            "ceil mode",
        ),
        (
            Between(lambda x: functional.max_pool2d(x, 3, ceil_mode=True)),
            IMAGE,
            "aten.max_pool2d.default",
            "ceil mode",
        ),
        (
            Between(lambda x: functional.avg_pool2d(x, 3, 1, 1)),
            IMAGE,
            "aten.avg_pool2d.default",
            "counts its padding",
        ),
        (
            nn.Sequential(nn.Linear(16, 16), Call(lambda x: x.softmax(-1) @ x.transpose(1, 2))),
            TOKENS,
            "aten.matmul.default",
            "a factor is a softmax",
        ),
    ],
)
def test_what_stays_float_says_why_and_the_program_agrees(
    module: nn.Module, shape: Any, operator: str, reason: str, quantized: Any
) -> None:
    result = quantized(module, shape)
    in_float = {d.operator: d.reason for d in result.decisions if not d.quantized}
    assert re.search(reason, in_float[operator])
    assert not result.audit.defects
    assert result.verification.to_converted[0].sqnr > 35


@pytest.mark.parametrize("rows", [3, 1])
def test_a_bias_with_a_number_for_each_row_is_added_in_float_behind_the_product(
    rows: int, quantized: Any
) -> None:
    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(16, 8))
            self.bias = nn.Parameter(torch.randn(3, 8 if rows == 3 else 1))
            self.last = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = functional.linear(x, self.weight.t(), self.bias)
            return self.last(y + torch.addmm(self.bias, x, self.weight))

    result = quantized(Biased(), (3, 16))
    products = [d for d in result.decisions if d.node.endswith("_product")]
    assert [d.status for d in products] == ["annotated", "annotated"]
    assert result.audit.defects == ()
    assert result.verification.to_float[0].sqnr > 30


@pytest.mark.parametrize(
    "prepared", [lambda x: x.mul(1).clamp_(-1, 1), lambda x: (x + 0).relu_(), lambda x: x / 1]
)
def test_an_operator_that_gives_its_input_may_stand_at_the_input(
    prepared: Any, quantized: Any
) -> None:
    result = quantized(nn.Sequential(Call(prepared), conv(), conv()), IMAGE)
    assert result.audit.defects == ()
    assert result.verification.to_float[0].sqnr > 30


def test_the_audit_calls_float_what_runs_in_float(quantized: Any) -> None:
    result = quantized(nn.Sequential(conv(), nn.Sigmoid(), nn.Softmax(1), conv()), IMAGE)
    placement = result.audit.placements["softmax"]
    assert (placement.place, placement.operator) == ("float", "Softmax")
    assert result.audit.placements["conv2d"].types == "u8, f32 -> f32"


def test_convolutions_that_openvino_folds_a_scale_into_are_found_again(quantized: Any) -> None:
    scale = Call(lambda x: 1.5 * x + 0.25)
    kinds = conv(), nn.Conv2d(4, 4, 1), conv(groups=2), conv(groups=4)
    layers = [(each, scale, nn.Hardswish(), scale) for each in kinds]
    module = nn.Sequential(*(one for each in layers for one in each), conv())
    first, again = (quantized(module, IMAGE) for _ in range(2))
    told = compiled_model(first.program).get_runtime_model().get_ordered_ops()
    kernels = [each for each in map(layer, told) if each["layerType"] == "Convolution"]
    assert [each["primitiveType"][-3:] for each in kernels] == ["_I8"] * 5
    assert first.report.int8_share == 1
    assert not first.audit.defects
    assert again.program == first.program


def test_unsigned_activations_give_the_same_numbers(quantized: Any) -> None:
    module = nn.Sequential(conv(), nn.ReLU(), conv())
    signed, unsigned = (
        quantized(module, IMAGE, config=config(activation=codes, weight=REDUCED_INT8))
        for codes in (INT8, UINT8)
    )
    image = torch.randn(IMAGE)
    outputs = [each.target.loader(each.program)([image])[0] for each in (signed, unsigned)]
    assert torch.equal(*outputs)


def test_a_linear_that_is_read_in_float_gives_float(quantized: Any) -> None:
    result = quantized(nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 4)), TOKENS)
    kernels = [result.audit.placements[name] for name in ("linear", "linear_1")]
    assert [each.operator for each in kernels] == ["FullyConnected"] * 2
    assert all(each.types.endswith("-> f32") for each in kernels)
    assert {each.kind for each in result.lowered.conversions} == {"quantize"}


class Scaled(nn.Module):
    """A residual convolution without a bias, scaled by a factor for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.factors = nn.Conv2d(4, 4, 3, 1, 1, bias=False), torch.rand(4, 1, 1) + 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) * self.factors


def test_a_convolution_that_takes_a_factor_into_its_weights_is_counted(quantized: Any) -> None:
    """OpenVINO names what is left after the multiplication."""
    result = quantized(Scaled(), IMAGE)
    placements = result.audit.placements
    assert [placements[each].operator for each in ("conv2d", "mul")] == ["Convolution"] * 2
    assert result.report.int8_share == 1


def test_a_linear_of_four_dimensions_is_int8_and_its_activation_is_not(quantized: Any) -> None:
    """The kernel adds the bias and computes the activation in another one."""
    mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
    result = quantized(mlp, (2, 4, 4, 8))
    places = {name: each.place for name, each in result.audit.placements.items()}
    assert places == {"linear": "int8", "gelu": "float", "linear_1": "int8"}
    assert [each.quantized for each in result.decisions] == [True, False, True]
    assert result.audit.defects == ()


def test_an_opted_out_layer_stays_float_between_integer_ones() -> None:
    module = nn.Sequential(conv(), conv(), conv()).eval()
    batch = (torch.randn(IMAGE),)
    quantizer = qreg.get_quantizer("openvino").set_module_name("1", None)
    result = qreg.quantize(module, batch, calibration=[batch], quantizer=quantizer)
    places = [each.place for each in result.audit.placements.values()]
    assert places == ["int8", "float", "int8"]
    # The first gives float from its integer sum, so that no quantized value enters the second.
    assert result.audit.placements["conv2d"].types == "u8, f32 -> f32"
    assert result.audit.splits == ()


def test_a_dynamic_batch_runs_at_other_sizes() -> None:
    module = nn.Sequential(conv(), nn.ReLU(), nn.Flatten(), nn.Linear(256, 8), nn.Linear(8, 4))
    batches = [(torch.randn(size, 4, 8, 8),) for size in (2, 5, 3)]
    result = qreg.quantize(
        module.eval(),
        batches[0],
        calibration=batches,
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=16)},),
        backend="openvino",
    )
    run = result.target.loader(result.program)
    assert [run([torch.randn(n, 4, 8, 8)])[0].shape[0] for n in (1, 16)] == [1, 16]
    assert not result.audit.defects


def test_a_vector_stays_a_vector(quantized: Any) -> None:
    module = nn.Sequential(
        nn.Unflatten(0, (1, 64)), nn.Linear(64, 64), nn.Flatten(0), nn.Linear(64, 8)
    )
    result = quantized(module, (64,))
    assert [d.reason for d in result.decisions if "is a vector" in d.reason]
    assert result.run(torch.randn(64)).shape == (8,)
