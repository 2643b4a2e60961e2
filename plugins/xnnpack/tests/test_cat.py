"""A cat is int8 where something computes with what it joins, and in float where nothing does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from rows import IMAGE, STATIC, Call, decided
from torch import Tensor, nn
from torch.nn import functional as F

import qreg
from qreg_xnnpack import XNNPACKQuantizer


def boxes_and_scores(model: Any, x: Tensor) -> Tensor:
    """Large boxes and scores between 0 and 1, as a detector joins them."""
    y = model.first(x)
    return torch.cat([F.relu(y[:, :4]) * 300, torch.sigmoid(y[:, 4:])], 1)


def sqnr(reference: Tensor, got: Tensor) -> float:
    return float(10 * torch.log10(reference.square().sum() / (reference - got).square().sum()))


def test_each_part_of_an_output_keeps_its_precision(quantized: Callable[..., qreg.Result]) -> None:
    model = Call(boxes_and_scores, first=nn.Conv2d(3, 8, 3))
    result = quantized(model, (1, 3, 16, 16))
    (cat,) = (each for each in result.decisions if each.operator == "aten.cat.default")
    assert cat.status == "float"
    assert cat.reason.startswith("nothing that computes in int8 reads it")
    (x,) = result.samples[0]
    reference, got = model(x).detach(), result.run(x)
    assert sqnr(reference[:, :4], got[:, :4]) > 35
    assert sqnr(reference[:, 4:], got[:, 4:]) > 40
    assert result.lowered.delegates == 1


def joined(model: Any, x: Tensor) -> Tensor:
    return torch.cat([model.first(x), model.second(x)], 1)


COMPUTED_WITH: dict[str, Callable[[Any, Tensor], Any]] = {
    "a convolution": lambda m, x: m.third(joined(m, x)),
    "a convolution after a pool": lambda m, x: m.third(F.max_pool2d(joined(m, x), 2)),
    "a sum": lambda m, x: joined(m, x) + 1,
    "a convolution of half of each": lambda m, x: m.first(joined(m, x)[:, 2:6]),
    "a convolution and the output": lambda m, x: (lambda y: (y, m.third(y)))(joined(m, x)),
    "a convolution after another cat": lambda m, x: m.third(
        torch.cat([joined(m, x)[:, 1:5], m.first(x)], 1)
    ),
}
NOT_COMPUTED_WITH: dict[str, Callable[[Any, Tensor], Any]] = {
    "the output": joined,
    "a sigmoid": lambda m, x: joined(m, x).sigmoid(),
    "the output after a view": lambda m, x: joined(m, x).flatten(1),
    "a convolution of one of them": lambda m, x: m.first(joined(m, x)[:, :4]),
    "a product with one of them": lambda m, x: (lambda y: (y[:, :4] * 2, y[:, 4:].sigmoid()))(
        joined(m, x)
    ),
    "a convolution of one that was moved": lambda m, x: m.first(
        joined(m, x).transpose(1, 2)[:, :, 4:].transpose(1, 2)
    ),
}


def _status(function: Callable[[Any, Tensor], Any]) -> str:
    convolutions = {"first": nn.Conv2d(4, 4, 3, padding=1), "second": nn.Conv2d(4, 4, 1)}
    model = Call(function, **convolutions, third=nn.Conv2d(8, 4, 1))
    return decided(XNNPACKQuantizer().set_global(STATIC), model, IMAGE)["cat"].status


@pytest.mark.parametrize("reader", COMPUTED_WITH)
def test_a_cat_that_something_computes_with_is_int8(reader: str) -> None:
    assert _status(COMPUTED_WITH[reader]) == "shared"


@pytest.mark.parametrize("reader", NOT_COMPUTED_WITH)
def test_a_cat_that_nothing_computes_with_stays_in_float(reader: str) -> None:
    assert _status(NOT_COMPUTED_WITH[reader]) == "float"


def test_a_cat_whose_reader_a_scope_keeps_in_float_stays_in_float(
    quantized: Callable[..., qreg.Result],
) -> None:
    def detect(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        found = boxes_and_scores(model, x)
        return found, model.head(F.relu(found))

    model = Call(detect, first=nn.Conv2d(3, 8, 3), head=nn.Conv2d(8, 2, 1))
    quantizer = qreg.get_quantizer("xnnpack").set_module_name("head", None)
    result = quantized(model, (1, 3, 16, 16), quantizer=quantizer)
    by_node = {each.node: each for each in result.decisions}
    assert by_node["cat"].status == "float"
    assert by_node["cat"].reason.startswith("nothing that computes in int8 reads it")
    assert by_node["conv2d"].status == "annotated"
    (x,) = result.samples[0]
    (reference, _), (got, _) = model(x), result.run(x)
    assert sqnr(reference[:, :4].detach(), got[:, :4]) > 35
    assert sqnr(reference[:, 4:].detach(), got[:, 4:]) > 40
