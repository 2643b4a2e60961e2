"""What cannot be said in ONNX, and what is no program or no input of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases_onnxruntime import Call
from torch import Tensor, nn
from torchao.quantization.pt2e import PlaceholderObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationSpec
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)

import qreg
from qreg.configs.factory import INT8, UINT8, Codes, config
from qreg.errors import ConfigError, InputError, LoweringError, UnknownNameError
from qreg.testing import graph_of
from qreg_onnxruntime.runtime import load

ROW = torch.randn(2, 8)


DYNAMIC, SYMMETRIC = config(activation=UINT8, is_dynamic=True), torch.per_tensor_symmetric


def quantize(module: nn.Module, *inputs: Tensor, **options: Any) -> qreg.Result:
    options = {"backend": "onnxruntime", **options}
    return qreg.quantize(module.eval(), inputs, calibration=[inputs], **options)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (config(activation=Codes("uint8", 0, 127)), r"in \[0, 127\] \(expected \[0, 255\]"),
        (config(activation=INT8), r"activations are torch.int8 \(expected torch.uint8 for ONNX"),
        (config(activation=UINT8, weight=Codes("uint8", 0, 255)), "weights are torch.uint8"),
        (
            replace(DYNAMIC, input_activation=replace(DYNAMIC.input_activation, qscheme=SYMMETRIC)),
            "dynamic and of torch.per_tensor_symmetric",
        ),
    ],
)
def test_a_config_that_would_not_run_in_integers_is_refused_up_front(
    given: Any, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        qreg.get_quantizer("onnxruntime", given)


def test_a_narrow_range_from_elsewhere_is_refused_with_its_place() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 4)))
    narrow = get_default_x86_inductor_quantization_config(reduce_range=True)
    quantizer = X86InductorQuantizer().set_global(narrow)
    prepared = prepare_pt2e(graph_of(module, (ROW,)), quantizer)
    prepared(ROW)
    with pytest.raises(LoweringError, match=r"'input'.* is quantized to \[0, 127\]"):
        qreg.lower(convert_pt2e(prepared), (ROW,), backend="onnxruntime")


def test_a_bias_in_float_is_what_the_backend_reads() -> None:
    left = QuantizationSpec(torch.float32, PlaceholderObserver)
    given = replace(config(activation=UINT8), bias=left)
    assert qreg.get_quantizer("onnxruntime", given).modes == {"static"}
    quantized = replace(left, dtype=torch.int32)
    with pytest.raises(ConfigError, match="its bias is quantized"):
        qreg.get_quantizer("onnxruntime", replace(given, bias=quantized))


def test_an_operator_that_onnx_lacks_is_named_with_its_module() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ops.aten._linalg_eigh(x @ x.t())[0]

    module = nn.Sequential(nn.Linear(8, 8), nn.Sequential(Inner()))
    with pytest.raises(LoweringError, match=r"no conversion for aten\._linalg_eigh.*'1\.0'"):
        quantize(module, ROW)


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

    def no_batches() -> Iterator[Any]:
        raise AssertionError("calibration has begun")
        yield

    model, inputs = Counting().eval(), (ROW,)
    with pytest.raises(LoweringError, match="changes its buffer 'seen'"):
        qreg.quantize(model, inputs, backend="onnxruntime", calibration=no_batches())
    with pytest.raises(LoweringError, match="changes its buffer 'seen'"):
        qreg.lower(model, inputs, backend="onnxruntime")


def test_a_program_that_changes_an_input_is_refused() -> None:
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor, state: Tensor) -> Tensor:
            state.add_(x)
            return self.linear(state)

    with pytest.raises(LoweringError, match="changes its input 'state' in place"):
        quantize(Changing(), ROW, torch.ones(2, 8))


@pytest.mark.parametrize("program", [b"", b"no program at all", b"\x08\x0a\x12\x00"])
def test_bytes_that_are_no_program_are_refused(program: bytes) -> None:
    with pytest.raises(InputError, match=r"it is not an ONNX model|rejects the model"):
        load(program)


def test_a_program_that_is_cut_short_is_refused() -> None:
    program = quantize(nn.Linear(8, 4), ROW).program
    with pytest.raises(InputError, match="it is not an ONNX model, or cut short"):
        load(program[: len(program) // 2])


@pytest.mark.parametrize(
    "inputs", [(), (ROW, ROW), (ROW.double(),), (torch.randn(2, 9),), (torch.randn(2, 8, 1),)]
)
def test_wrong_inputs_are_told_what_the_program_takes(inputs: tuple[Tensor, ...]) -> None:
    run = load(quantize(nn.Linear(8, 4), ROW).program)
    with pytest.raises(InputError, match=r"\(expected float32 \(2, 8\), got"):
        run(inputs)


def test_an_opset_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(InputError, match="opset is 9"):
        quantize(nn.Linear(8, 4), ROW, options={"opset": 9})
    with pytest.raises(UnknownNameError, match="opsets"):
        quantize(nn.Linear(8, 4), ROW, options={"opsets": 21})


@pytest.mark.parametrize("opset", [18, 23])
def test_other_opsets_run(opset: int) -> None:
    import onnx

    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    result = quantize(module, ROW, options={"opset": opset, "threads": 1})
    assert onnx.load_model_from_string(result.program).opset_import[0].version == opset
    assert {each.place for each in result.audit.placements.values()} == {"int8"}


def test_the_program_has_the_names_of_the_model_and_no_paths() -> None:
    import onnx

    result = quantize(Call(lambda x, y: (x @ y.t(), x)), ROW, ROW)
    model = onnx.load_model_from_string(result.program)
    assert [each.name for each in model.graph.output] == ["output_0", "output_1"]
    assert b"/" not in b"".join(each.SerializeToString() for each in model.graph.node)


def test_outputs_stay_what_they_are_when_the_program_runs_again() -> None:
    run = load(quantize(nn.Linear(8, 4), ROW).program)
    (first,) = run([ROW])
    kept = first.clone()
    run([ROW + 1])
    assert torch.equal(first, kept)
