"""Attention runs on operators that the delegate has, with the values that torch gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as attention

import qreg
from qreg.verification.metrics import compare

SHAPE = (2, 3, 7, 8)  # batch, heads, positions, depth


class Attention(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs).relu()


def tensors(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(shape) for shape in shapes)


def run(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[qreg.Lowered, float]:
    """The lowered program, and the SQNR of its output to torch's."""
    model = Attention(function).eval()
    lowered = qreg.lower(model, inputs)
    (output,) = (
        qreg.plugins.registry.installed().backend("xnnpack").value.load(lowered.program)(inputs)
    )
    return lowered, compare(model(*inputs), output).sqnr


def all_seen(query: Tensor, key: Tensor) -> Tensor:
    """A mask as transformers makes it: computed from positions, and hiding nothing."""
    return (torch.arange(key.shape[2])[None, None, None, :] >= 0).expand(
        query.shape[0], 1, query.shape[2], key.shape[2]
    )


PLAIN: dict[str, Callable[..., Tensor]] = {
    "without a mask": attention,
    "with a scale": lambda q, k, v: attention(q, k, v, scale=0.3),
    "with a scale of zero": lambda q, k, v: attention(q, k, v, scale=0.0),
    "with a mask that hides nothing": lambda q, k, v: attention(q, k, v, all_seen(q, k)),
    "with a mask of zeros": lambda q, k, v: attention(q, k, v, torch.zeros(7, 7)),
}


@pytest.mark.parametrize("case", PLAIN)
def test_attention_that_hides_nothing_is_in_one_delegate(case: str) -> None:
    lowered, sqnr = run(PLAIN[case], *tensors(SHAPE, SHAPE, SHAPE))
    assert (lowered.delegates, lowered.outside) == (1, ())
    assert sqnr > 100


def test_keys_of_another_length_are_attended_too() -> None:
    other = (2, 3, 5, 8)
    lowered, sqnr = run(attention, *tensors(SHAPE, other, other))
    assert (lowered.delegates, lowered.outside) == (1, ())
    assert sqnr > 100


HIDING: dict[str, Callable[..., Tensor]] = {
    "causal": lambda q, k, v: attention(q, k, v, is_causal=True),
    "with a constant mask": lambda q, k, v: attention(q, k, v, torch.ones(7, 7).tril().bool()),
    "with a mask of numbers": lambda q, k, v: attention(q, k, v, torch.arange(7.0).expand(7, 7)),
    "with a mask of the inputs": lambda q, k, v: attention(q, k, v, q[:, :, :, :7] > 0),
    "in rank 3": lambda q, k, v: attention(q[0], k[0], v[0]),
}


@pytest.mark.parametrize("case", HIDING)
def test_attention_that_may_hide_keys_stays_as_torch_takes_it_apart(case: str) -> None:
    _, sqnr = run(HIDING[case], *tensors(SHAPE, SHAPE, SHAPE))
    assert sqnr > 100


def test_attention_as_an_output_is_still_the_output() -> None:
    class Bare(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            return attention(q, k, v), q + 1

    inputs = tensors(SHAPE, SHAPE, SHAPE)
    lowered = qreg.lower(Bare(), inputs)
    outputs = (
        qreg.plugins.registry.installed().backend("xnnpack").value.load(lowered.program)(inputs)
    )
    torch.testing.assert_close(outputs[0], attention(*inputs), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs[1], inputs[0] + 1)


def test_an_encoder_layer_is_quantized_and_its_attention_known_by_name(quantized: Any) -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
    result = quantized(layer, (1, 6, 16))
    names = [each.node for each in result.decisions if "attention" in each.operator]
    assert {result.audit.placements[name].place for name in names} <= {"float"}
    assert result.verification.to_converted[0].sqnr > 30
