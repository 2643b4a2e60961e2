"""Products with 4-bit and 8-bit weights alone, against a calculation by hand, and their bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.configs.factory import INT4
from qreg.configs.weights import weight_config
from qreg.plugins.processor import has_vnni
from qreg_onnxruntime.packed_weights import Weight

COLUMNS, ROWS = 320, 48
MATRIX, TOKENS = torch.randn(5, COLUMNS), torch.randn(2, 5, COLUMNS)
CONFIGS = {"int8_weight_per_channel": (8, COLUMNS), "int4_weight_groupwise": (4, 32)}


def quantize(model: nn.Module, x: Tensor, **options: Any) -> qreg.Result:
    return qreg.quantize(model.eval(), (x,), backend="onnxruntime", progress=False, **options)


def rounded(weight: Tensor, bits: int, size: int) -> Tensor:
    groups = weight.detach().reshape(len(weight), -1, size)
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    step = largest.abs() / 127 if bits == 8 else largest / -8
    low, high = (-127, 127) if bits == 8 else (-8, 7)
    return ((groups * (1 / step)).round().clamp(low, high) * step).reshape(weight.shape)


def sqnr(found: Tensor, wanted: Tensor) -> float:
    noise = (found - wanted).square().mean()
    return float(10 * torch.log10(wanted.square().mean() / noise))


@pytest.mark.parametrize("x", [MATRIX, TOKENS], ids=["matrix", "tokens"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("config", CONFIGS)
def test_the_program_multiplies_by_the_rounded_weight(config: str, bias: bool, x: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Linear(COLUMNS, ROWS, bias=bias)
    result = quantize(model, x, config=config)
    wanted = nn.functional.linear(x, rounded(model.weight, *CONFIGS[config]), model.bias).detach()
    torch.testing.assert_close(result.converted(x), wanted)
    # The runtime quantizes activations to int8, by blocks of the columns.
    bits, _ = CONFIGS[config]
    assert sqnr(result.run(x), wanted) > (35 if bits == 4 or has_vnni() else 15)
    (row,) = result.report.operators
    assert (row.place, row.types) == ("int8", f"float32, int{bits} -> float32")
    assert row.lowered_as == "MatMulNBits"
    assert not result.audit.defects


def test_an_addmm_has_packed_weights_too() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(64, 16)), nn.Parameter(torch.ones(16))

        def forward(self, x: Tensor) -> Tensor:
            return torch.addmm(self.bias, x, self.weight)

    torch.manual_seed(0)
    model, x = Turned(), torch.randn(3, 64)
    result = quantize(model, x, config="int4_weight_groupwise")
    wanted = x @ rounded(model.weight.T, 4, 32).T + model.bias
    torch.testing.assert_close(result.converted(x), wanted.detach())
    assert result.report.operators[0].lowered_as == "MatMulNBits"


def test_a_product_of_integers_is_no_linear() -> None:
    """ONNX Runtime has kernels for products of integers, and none for their ``Gemm``."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 16)
            self.register_buffer("table", torch.eye(64, dtype=torch.int64))

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x + (x.long() @ self.table).float())

    torch.manual_seed(0)
    model, x = Counting().eval(), torch.randn(3, 64)
    result = quantize(model, x, config="int4_weight_groupwise")
    assert [row.place for row in result.report.operators if "linear" in row.name] == ["int8"]
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_converted) > 40


def test_a_shared_weight_is_stored_once_in_its_bits() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.square = nn.Linear(256, 256, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.square(self.square(x).relu())

    result = quantize(Twice(), torch.randn(4, 256), config="int4_weight_groupwise_128")
    stored = 256 * 256 // 2 + 256 * 2 * 4
    assert stored <= len(result.program) < stored + 2048


def test_weights_alone_stand_next_to_quantized_activations() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 32))
    quantizer = qreg.get_quantizer("onnxruntime").set_module_name("2", "int4_weight_groupwise")
    batches = [(torch.randn(8, 64),) for _ in range(4)]
    result = quantize(model, batches[0][0], quantizer=quantizer, calibration=batches)
    linears = [each for each in result.report.operators if "linear" in each.operator]
    assert [each.place for each in linears] == ["int8"] * 3
    assert linears[1].lowered_as == "MatMulNBits"
    assert result.verification.to_converted[0].sqnr > 30


def test_rows_of_broken_groups_are_a_reason() -> None:
    quantizer = qreg.get_quantizer("onnxruntime", "int4_weight_groupwise", allow_float=True)
    x = torch.randn(2, 48)
    explained = qreg.explain(nn.Linear(48, 8), (x,), quantizer=quantizer, progress=False)
    reason = explained.operators[0].reason
    assert reason == "its 48 columns are not a multiple of the group size 32"


def test_groups_that_the_operator_does_not_have_are_rejected() -> None:
    with pytest.raises(qreg.errors.ConfigError, match=r"in groups of 24 .expected a power of 2"):
        qreg.get_quantizer("onnxruntime", weight_config(INT4, group_size=24))


def test_an_older_opset_has_groups_too() -> None:
    result = quantize(
        nn.Linear(64, 8), torch.randn(2, 64), config="int4_weight_groupwise", options={"opset": 18}
    )
    versions = {each.domain: each.version for each in _model(result).opset_import}
    assert versions == {"": 18, "com.microsoft": 1}


def _model(result: qreg.Result) -> Any:
    return onnx.load_model_from_string(result.program)


def test_values_are_packed_from_the_low_half_and_blocks_are_filled_up() -> None:
    codes = np.arange(-8, 8, dtype=np.int8)[None].repeat(2, 0)
    packed = Weight(codes, np.ones((2, 1), np.float32), 16).packed()
    assert packed.shape == (2, 1, 8)
    assert packed[0, 0].tolist() == [low | (low + 1) << 4 for low in range(0, 16, 2)]
    by_row = Weight(np.full((2, 130), 100, np.int8), np.ones(2, np.float32), None)
    assert by_row.packed()[1, :, :3].tolist() == [[228] * 3, [228, 228, 128]]
    assert by_row.scale_of_each_block().tolist() == [1.0] * 4
