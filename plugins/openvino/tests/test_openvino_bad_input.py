"""What OpenVINO cannot run in integers or at all, and what is no input of a program."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchao.quantization.pt2e import PlaceholderObserver
from torchao.quantization.pt2e.quantizer import QuantizationSpec

import qreg
from qreg.configs.factory import INT8, UINT8, Codes, config
from qreg.errors import ConfigError, InputError, LoweringError
from qreg_openvino.runtime import load

ROW = torch.randn(2, 8)


def quantize(module: nn.Module, *inputs: Tensor, **options: Any) -> qreg.Result:
    options = {"backend": "openvino", **options}
    return qreg.quantize(module.eval(), inputs, calibration=[inputs], **options)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (config(activation=Codes("uint8", 0, 127)), r"in \[0, 127\] \(expected \[0, 255\]"),
        (config(activation=Codes("int16", -32768, 32767)), "activations are torch.int16"),
        (config(activation=UINT8, weight=Codes("uint8", 0, 255)), "weights are torch.uint8"),
        (config(activation=INT8, is_dynamic=True), "activations are dynamic"),
        (config(weight=Codes("int8", -8, 7)), r"weights are in \[-8, 7\] \(expected 127 values"),
    ],
)
def test_a_config_that_would_not_run_in_integers_is_refused_up_front(
    given: Any, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        qreg.get_quantizer("openvino", given)


def test_a_bias_in_float_is_what_the_backend_reads() -> None:
    left = QuantizationSpec(torch.float32, PlaceholderObserver)
    given = replace(config(activation=UINT8), bias=left)
    assert qreg.get_quantizer("openvino", given).modes == {"static"}
    quantized = replace(left, dtype=torch.int32)
    with pytest.raises(ConfigError, match="its bias is quantized"):
        qreg.get_quantizer("openvino", replace(given, bias=quantized))


def test_an_operator_that_openvino_lacks_is_named_with_its_module() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ops.aten._linalg_eigh(x @ x.t())[0]

    module = nn.Sequential(nn.Linear(8, 8), nn.Sequential(Inner()))
    with pytest.raises(LoweringError, match=r"no conversion for aten\._linalg_eigh.*'1\.0'"):
        quantize(module, ROW)


def test_a_dynamic_quantization_from_elsewhere_is_refused_with_its_place() -> None:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    from qreg.testing import graph_of

    dynamic = get_default_x86_inductor_quantization_config(is_dynamic=True)
    quantizer = X86InductorQuantizer().set_global(dynamic)
    prepared = prepare_pt2e(graph_of(nn.Linear(8, 8).eval(), (ROW,)), quantizer)
    prepared(ROW)
    with pytest.raises(LoweringError, match=r"'input'.* is quantized dynamically"):
        qreg.lower(convert_pt2e(prepared), (ROW,), backend="openvino")


def test_a_program_with_state_is_refused() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)
            self.register_buffer("seen", torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            self.seen.add_(1)
            return self.linear(x) + self.seen

    with pytest.raises(LoweringError, match="changes its buffer 'seen'"):
        quantize(Counting(), ROW)


def test_an_input_that_is_changed_in_place_is_given_first() -> None:
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor, state: Tensor) -> Tensor:
            state.add_(x)
            return self.linear(state)

    result = quantize(Changing(), ROW, torch.ones(2, 8))
    assert result.lowered.changed_inputs == 1
    changed, _ = load(result.program)([ROW, torch.ones(2, 8)])
    assert torch.allclose(changed, ROW + 1)


@pytest.mark.parametrize(
    "inputs", [(), (ROW, ROW), (ROW.double(),), (torch.randn(2, 9),), (torch.randn(2, 8, 1),)]
)
def test_wrong_inputs_are_told_what_the_program_takes(inputs: tuple[Tensor, ...]) -> None:
    run = load(quantize(nn.Linear(8, 4), ROW).program)
    with pytest.raises(InputError, match=r"\(expected float32 \(2, 8\), got"):
        run(inputs)


def test_outputs_stay_what_they_are_when_the_program_runs_again() -> None:
    run = load(quantize(nn.Linear(8, 4), ROW).program)
    (first,) = run([ROW])
    kept = first.clone()
    run([ROW + 1])
    assert torch.equal(first, kept)


def test_inputs_and_constants_as_outputs_are_given() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
            out = self.linear(x)
            return out, x, out

    result = quantize(Odd(), ROW, ROW)
    first, second, third = load(result.program)([ROW, ROW])
    assert torch.equal(second, ROW)
    assert torch.equal(first, third)
