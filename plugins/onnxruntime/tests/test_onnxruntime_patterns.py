"""Every pattern in the runtime: integer kernels by its own account, and the right numbers."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from cases_onnxruntime import (
    CASES,
    IMAGE,
    ROW,
    TOKENS,
    Between,
    Call,
    Together,
    config_of,
    conv,
    two,
)
from torch import nn
from torch.nn import functional

import qreg

# The conformance kit takes the case of an annotator's own name; variants are here, in one program
# for all that read the same inputs, since most of the time goes into exporting.
GROUPS: dict[Any, list[str]] = {}
for name, (_, shapes) in CASES.items():
    if " " in name:
        GROUPS.setdefault(shapes, []).append(name)


@pytest.mark.parametrize("shapes", GROUPS)
def test_variants_of_patterns_compute_in_integers_and_agree(shapes: Any, quantized: Any) -> None:
    names = GROUPS[shapes]
    result: qreg.Result = quantized(Together(*(CASES[name][0] for name in names)), *shapes)
    for decision in result.decisions:
        if decision.operator != "aten.clone.default":
            place = result.audit.placements[decision.node].place
            assert (decision.quantized, place) == (True, "int8"), decision
    for name, found in zip(names, result.verification.to_converted, strict=True):
        assert found.sqnr > 35, name
    for name, found in zip(names, result.verification.to_float, strict=True):
        assert found.sqnr > 25, name


def float_reasons(result: qreg.Result) -> dict[str, str]:
    return {d.operator: d.reason for d in result.decisions if not d.quantized}


@pytest.mark.parametrize(
    ("module", "shapes", "operator", "reason"),
    [
        (
            nn.Sequential(conv(), nn.ConvTranspose2d(4, 4, 3)),
            (IMAGE,),
            "aten.conv_transpose2d.input",
            "no annotator",
        ),
        (two(lambda x, y: torch.add(x, y, alpha=2)), (IMAGE,), "aten.add.Tensor", "alpha=2"),
        (
            Call(lambda x, y: torch.relu(x + y)),
            (ROW, ROW),
            "aten.add.Tensor",
            "no convolution, linear or matmul reads it",
        ),
        (
            Between(lambda x: functional.adaptive_avg_pool2d(x, 2)),
            (IMAGE,),
            "aten.adaptive_avg_pool2d.default",
            r"the kernel requires \[1, 1\]",
        ),
        (
            Between(lambda x: functional.avg_pool2d(x, 3, ceil_mode=True)),
            (IMAGE,),
            "aten.avg_pool2d.default",
            "no annotator",
        ),
        (
            nn.Sequential(nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 4)),
            (ROW,),
            "aten.relu.default",
            "none of its inputs is quantized",
        ),
    ],
)
def test_what_stays_float_says_why_and_the_program_runs(
    module: nn.Module, shapes: Any, operator: str, reason: str, quantized: Any
) -> None:
    result = quantized(module, *shapes, allow_float=True)
    assert not result.audit.defects
    assert re.search(reason, float_reasons(result)[operator])


def test_a_linear_that_is_read_in_float_gives_float(quantized: Any) -> None:
    result = quantized(nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 4)), TOKENS)
    kernels = [result.audit.placements[name] for name in ("linear", "linear_1")]
    assert [each.operator for each in kernels] == ["MatMulIntegerToFloat"] * 2
    assert [each.types for each in kernels] == ["uint8, int8 -> float32"] * 2
    assert {each.kind for each in result.lowered.conversions} == {"quantize"}


def test_a_module_that_is_called_twice_keeps_a_bias_for_each_call(quantized: Any) -> None:
    layer = conv()
    with torch.no_grad():
        layer.bias.copy_(torch.linspace(-5, 5, 4))
    result = quantized(nn.Sequential(layer, Call(lambda x: x * 10), layer), IMAGE)
    assert result.verification.to_converted[0].sqnr > 35
    assert result.decided == {"annotated": 3}


def test_a_residual_block_is_integer_throughout(quantized: Any) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.after = conv(), conv(), conv()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = functional.relu(self.first(x))
            return self.after(functional.relu(x + self.second(x)))

    result = quantized(Block(), IMAGE)
    assert {each.place for each in result.audit.placements.values()} == {"int8"}
    assert [each.kind for each in result.lowered.conversions] == ["quantize", "dequantize"]


@pytest.mark.parametrize(
    ("function", "kernel"),
    [(lambda x: functional.avg_pool2d(x, 2), "AveragePool"), (lambda x: x.softmax(1), "Softmax")],
)
def test_what_is_slower_in_integers_stays_float_between_them(
    function: Any, kernel: str, quantized: Any
) -> None:
    result = quantized(Between(function), IMAGE)
    (found,) = (each for each in result.audit.placements.values() if each.place == "float")
    assert found.operator == kernel


class Peaked(nn.Module):
    """Attention whose first query reads one token, and whose others read all of them alike."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = torch.diag_embed(20 * (torch.arange(x.shape[1]) == 0).float()) + x @ x.mT * 0.05
        return torch.softmax(scores, -1) @ self.value(x)


def test_attention_weights_stay_in_float(quantized: Any) -> None:
    result = quantized(Peaked(), (2, 256, 16))
    scores, product = (d for d in result.decisions if d.operator == "aten.matmul.default")
    places = [result.audit.placements[each.node].place for each in (scores, product)]
    assert places == ["int8", "float"]
    assert product.reason.startswith("a factor is a softmax")
    assert result.verification.to_float[0].sqnr > 35  # 16 with int8 weights


@pytest.mark.parametrize(
    ("layers", "shape", "splits"),
    [
        ([conv(), conv(), conv()], IMAGE, 1),
        ([conv(), nn.Sequential(conv(), nn.ReLU()), conv()], IMAGE, 1),
        # A linear layer gives float from its integer sum to what reads float.
        ([nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)], ROW, 0),
        ([nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)], TOKENS, 0),
    ],
)
def test_an_opted_out_layer_stays_float_between_integer_ones(
    layers: Any, shape: Any, splits: int
) -> None:
    module = nn.Sequential(*layers).eval()
    batch = (torch.randn(shape),)
    quantizer = qreg.get_quantizer("onnxruntime").set_module_name("1", None)
    result = qreg.quantize(module, batch, calibration=[batch], quantizer=quantizer)
    places = {each.place for each in result.audit.placements.values()}
    decided = {d.node for d in result.decisions if d.quantized}
    assert {result.audit.placements[name].place for name in decided} == {"int8"}
    assert places == {"int8", "float"}
    assert len(result.audit.splits) == splits


def test_a_dynamic_batch_runs_at_other_sizes() -> None:
    module = nn.Sequential(conv(), nn.ReLU(), nn.Flatten(), nn.Linear(256, 8), nn.Linear(8, 4))
    batches = [(torch.randn(size, 4, 8, 8),) for size in (2, 5, 3)]
    shapes = ({0: torch.export.Dim("batch", min=1, max=16)},)
    for config in (config_of("static"), config_of("dynamic")):
        result = qreg.quantize(
            module.eval(),
            batches[0],
            calibration=batches,
            dynamic_shapes=shapes,
            backend="onnxruntime",
            config=config,
        )
        run = qreg.plugins.registry.installed().backend("onnxruntime").value.load(result.program)
        assert [run([torch.randn(n, 4, 8, 8)])[0].shape[0] for n in (1, 16)] == [1, 16]


@pytest.mark.parametrize("bounds", [{"min": 0.1}, {"max": -0.1}, {"min": 0.1, "max": 0.4}])
def test_a_clamp_that_leaves_zero_out_is_float_behind_an_int8_operator(
    bounds: dict[str, float], quantized: Any
) -> None:
    clamped = Call(lambda x: x.clamp(**bounds))
    result: qreg.Result = quantized(nn.Sequential(conv(), clamped, conv()), IMAGE)
    assert result.audit.defects == ()
    assert [each.status for each in result.decisions] == ["annotated", "float", "annotated"]
    assert result.verification.to_float[0].sqnr > 25
