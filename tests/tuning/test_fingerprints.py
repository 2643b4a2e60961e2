"""Hashes that decide what a work folder is of, and which programs are the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from qreg.tuning.fingerprints import of_function, of_graph


def one(run: Any) -> float:
    return 1.0


def two(run: Any) -> float:
    return 2.0


class Metric:
    def __call__(self, run: Any) -> float:
        return 1.0


class Other:
    def __call__(self, run: Any) -> float:
        return 2.0


def logged(function: Callable[[Any], float]) -> Callable[[Any], float]:
    @functools.wraps(function)
    def inner(run: Any) -> float:
        return function(run)

    return inner


def test_functions_differ_by_their_code_however_they_are_wrapped() -> None:
    assert of_function(Metric()) == of_function(Metric())
    hashes = [of_function(each) for each in (one, two, Metric(), Other())]
    assert len(set(hashes)) == 4
    assert [of_function(wrap(one)) for wrap in (functools.partial, logged)] == hashes[:1] * 2
    inner = [lambda run: (lambda: 1.0)(), lambda run: (lambda: 2.0)()]
    assert of_function(inner[0]) != of_function(inner[1])


def test_the_order_of_a_set_is_not_part_of_a_function() -> None:
    first, second = (lambda run: run in {0, 8}), (lambda run: run in {8, 0})
    assert of_function(first) == of_function(second)
    assert of_function(first) != of_function(lambda run: run in {0, 16})


class Branch(nn.Module):
    def __init__(self, inside: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Any:
        return torch.cond(x.sum() > 0, self.inside, torch.sin, (x,))


def test_graphs_differ_by_their_bodies_and_their_backend() -> None:
    cos, tan = (
        torch.export.export(Branch(each), (torch.ones(2),)).module(check_guards=False)
        for each in (torch.cos, torch.tan)
    )
    assert str(cos.graph) == str(tan.graph)
    found = [of_graph(cos, "toy"), of_graph(tan, "toy"), of_graph(cos, "other")]
    assert len(set(found)) == 3
