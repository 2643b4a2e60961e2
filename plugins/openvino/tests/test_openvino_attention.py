"""The scores of attention are computed in int8, and what follows them in float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases_openvino import TOKENS, Attention, Call
from torch import Tensor, nn
from torch.nn import functional as F

import qreg
from qreg.plugins.processor import has_vnni
from qreg_openvino.config import get_int8_quantization_config

NEEDS_VNNI = pytest.mark.skipif(
    not has_vnni(),
    reason="without VNNI, products of 8-bit activations saturate",
)

HEADS, TOKENS_EACH, WIDTH = 2, 5, 8
LINEARS = 4 * 2 * TOKENS_EACH * 16 * 16
SCORES = WEIGHTED = 2 * HEADS * TOKENS_EACH * TOKENS_EACH * WIDTH

HIDDEN = torch.ones(TOKENS_EACH, TOKENS_EACH).triu(1).bool()
WEIGHTS = torch.linspace(0.5, 1, TOKENS_EACH)
MASK = torch.zeros(TOKENS_EACH, TOKENS_EACH).masked_fill(HIDDEN, -1e4)


def weighted(scores: Tensor, value: Tensor) -> Tensor:
    return scores.softmax(-1) @ value


def scores(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.transpose(-1, -2)


SPELLED_OUT: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "plain": lambda q, k, v: weighted(scores(q, k), v),
    "divided": lambda q, k, v: weighted(scores(q, k) / 3, v),
    "multiplied": lambda q, k, v: weighted(scores(q, k) * 0.3, v),
    "masked": lambda q, k, v: weighted(scores(q, k) + MASK, v),
    "multiplied and masked": lambda q, k, v: weighted(scores(q, k) * 0.3 + MASK, v),
    "filled": lambda q, k, v: weighted((scores(q, k) / 3).masked_fill(HIDDEN, -1e4), v),
    "scaled queries": lambda q, k, v: weighted(scores(q * 0.3, k), v),
    "dropped weights": lambda q, k, v: F.dropout(scores(q, k).softmax(-1), 0.1, False) @ v,
    "filled weights": lambda q, k, v: scores(q, k).softmax(-1).masked_fill(HIDDEN, 0) @ v,
    "chosen weights": lambda q, k, v: (
        torch.where(HIDDEN, torch.zeros(()), scores(q, k).softmax(-1)) @ v
    ),
    "scaled weights": lambda q, k, v: (scores(q, k).softmax(-1) * WEIGHTS) @ v,
    "added weights": lambda q, k, v: (scores(q, k).softmax(-1) + WEIGHTS) @ v,
    "normalized": lambda q, k, v: weighted(
        scores(F.normalize(q, dim=-1), F.normalize(k, dim=-1)) * 10, v
    ),
}
WHOLE: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "plain": F.scaled_dot_product_attention,
    "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "masked": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=MASK),
    "of booleans": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=~HIDDEN),
    "scaled": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=1.0),
}


def made(module: nn.Module, **options: Any) -> qreg.Result:
    torch.manual_seed(0)
    batches = [(torch.randn(TOKENS),) for _ in range(4)]
    return qreg.quantize(
        module.eval(),
        batches[0],
        calibration=batches,
        backend="openvino",
        **{"config": get_int8_quantization_config(), **options},
    )


@NEEDS_VNNI
@pytest.mark.parametrize("name", SPELLED_OUT)
def test_scores_run_in_int8_and_weights_by_values_in_float(name: str) -> None:
    result = made(Attention(SPELLED_OUT[name]))
    assert not result.report.defects
    first, second = [row for row in result.report.operators if "matmul" in row.operator]
    assert (first.place, first.types, first.int8_macs) == ("int8", "i8, i8 -> f32", SCORES)
    assert (second.place, second.int8_macs) == ("float", 0)
    assert str(second.types).startswith("f32, f32")
    assert "a factor is a softmax" in second.reason
    assert result.report.int8_share == (LINEARS + SCORES) / (LINEARS + SCORES + WEIGHTED)
    assert result.verification.to_converted[0].sqnr > 100
    assert result.verification.to_float[0].sqnr > 30


@pytest.mark.parametrize("name", ["divided", "multiplied", "filled", "masked"])
def test_scores_that_are_kept_in_float_are_reported_in_float(name: str) -> None:
    """The snippet has the name of what scales them, in place of theirs."""
    quantizer = qreg.get_quantizer("openvino").set_operator_type("aten.matmul.default", None)
    torch.manual_seed(0)
    batches = [(torch.randn(TOKENS),) for _ in range(2)]
    module = Attention(SPELLED_OUT[name]).eval()
    result = qreg.quantize(module, batches[0], calibration=batches, quantizer=quantizer)
    rows = [each for each in result.report.operators if "matmul" in each.operator]
    assert [row.place for row in rows] == ["float", "float"]


@NEEDS_VNNI
@pytest.mark.parametrize("name", WHOLE)
def test_an_attention_counts_its_scores_alone_in_int8(name: str) -> None:
    result = made(Attention(WHOLE[name]))
    assert not result.report.defects
    (row,) = [each for each in result.report.operators if "attention" in each.operator]
    assert row.place == "int8"
    inside = [each for each in result.report.operators if each.lowered_as == "Subgraph"]
    moves = {each.place for each in inside if "transpose" in each.operator}
    assert moves == {"float"}
    assert (row.macs, row.float_macs, row.int8_macs) == (SCORES + WEIGHTED, WEIGHTED, SCORES)
    assert result.report.int8_share == (LINEARS + SCORES) / (LINEARS + SCORES + WEIGHTED)
    assert result.verification.to_converted[0].sqnr > 100
    assert result.verification.to_float[0].sqnr > 30


@NEEDS_VNNI
def test_the_layers_of_queries_and_keys_return_8_bits() -> None:
    """Their quantizations are moved upstream of the views and transposes of heads."""
    result = made(Attention(F.scaled_dot_product_attention))
    rows = [each for each in result.report.operators if each.operator == "aten.linear.default"]
    assert [row.types for row in rows] == ["u8 -> i8", "u8 -> i8", "u8 -> f32", "u8 -> f32"]


class Linear(nn.Module):
    """Attention without a softmax: products of activations alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu() @ (x.sigmoid().transpose(1, 2) @ x)


@NEEDS_VNNI
def test_products_of_activations_without_a_softmax_run_in_int8() -> None:
    result = made(nn.Sequential(nn.Linear(16, 16), Linear(), nn.Linear(16, 16)))
    rows = [each for each in result.report.operators if each.operator == "aten.matmul.default"]
    assert [row.types for row in rows] == ["i8, i8 -> i8", "i8, i8 -> u8"]
    assert not result.report.defects
    assert result.report.int8_share == 1
    assert result.verification.to_converted[0].sqnr > 40


@NEEDS_VNNI
@pytest.mark.parametrize(
    "function", [torch.mm, lambda x, y: x @ y @ x, lambda x, y: torch.mm(x, y).relu() * 2]
)
def test_matrices_from_the_inputs_are_multiplied_in_int8(
    function: Callable[[Tensor, Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    pairs = [(torch.randn(5, 16), torch.randn(16, 5)) for _ in range(4)]
    result = qreg.quantize(
        Call(function).eval(),
        pairs[0],
        calibration=pairs,
        backend="openvino",
        config=get_int8_quantization_config(),
    )
    assert not result.report.defects
    assert result.report.int8_share == 1
    assert result.verification.to_converted[0].sqnr > 40
    assert result.verification.to_float[0].sqnr > 30


@NEEDS_VNNI
@pytest.mark.parametrize("tokens", [1, 2, 8])
@pytest.mark.parametrize("heads", [1, 2, 8])
@pytest.mark.parametrize("attention", [SPELLED_OUT["multiplied"], WHOLE["plain"]])
def test_outside_of_a_snippet_the_scores_are_counted_as_well(
    attention: Callable[[Tensor, Tensor, Tensor], Tensor], heads: int, tokens: int
) -> None:
    """OpenVINO has several kernels instead for some numbers of heads and tokens."""
    batches = [(torch.randn(2, tokens, 16),) for _ in range(4)]
    layers = nn.Sequential(*(Attention(attention, heads) for _ in range(2))).eval()
    result = qreg.quantize(
        layers,
        batches[0],
        calibration=batches,
        backend="openvino",
        config=get_int8_quantization_config(),
    )
    assert not result.report.defects
    scores, linears = 2 * 2 * tokens * tokens * 16, 2 * 4 * 2 * tokens * 16 * 16
    assert result.report.int8_share == (linears + scores) / (linears + 2 * scores)
    assert result.verification.to_converted[0].sqnr > 50


class Clipped(nn.Module):
    """A layer that reads a product above 0, twice as large."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear((x @ x.transpose(1, 2)).relu() * 2)


def test_a_layer_that_has_the_name_of_its_dequantization_alone_is_found() -> None:
    result = made(Clipped())
    (row,) = [each for each in result.report.operators if each.operator == "aten.linear.default"]
    assert (row.place, row.types) == ("int8", "u8 -> f32")
    assert not result.report.defects


def test_weights_of_7_bits_leave_products_of_activations_in_float() -> None:
    """Without VNNI, sums of products of 8 bits saturate, which those weights prevent."""
    narrow = get_int8_quantization_config(weight_qmin=-64, weight_qmax=63)
    result = made(Attention(F.scaled_dot_product_attention), config=narrow)
    (row,) = [each for each in result.report.operators if "attention" in each.operator]
    assert (row.place, row.int8_macs) == ("float", 0)
    assert "saturate" in row.reason


class Pooled(nn.Module):
    """Attention to values that are the keys, too."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.both = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        both = self.both(x)
        return F.scaled_dot_product_attention(self.query(x), both, both)


class Read(nn.Module):
    """Attention to keys that a linear layer reads, too."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        key = self.key(x)
        return F.scaled_dot_product_attention(self.query(x), key, self.value(key))


@NEEDS_VNNI
@pytest.mark.parametrize(
    ("module", "reason"), [(Pooled(), "its values are its keys"), (Read(), "has a zero point")]
)
def test_attention_stays_in_float_with_a_reason(module: nn.Module, reason: str) -> None:
    result = made(module)
    (row,) = [each for each in result.report.operators if "attention" in each.operator]
    assert (row.status, row.place) == ("float", "float")
    assert reason in row.reason
    assert not result.report.defects
    assert result.verification.to_converted[0].sqnr > 100
