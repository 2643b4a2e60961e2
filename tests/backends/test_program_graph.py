"""Operators and conversions follow from the kernels of a program and the tensors between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qreg import Conversion, LoweredOperator
from qreg.backends.program_graph import Kernel, ProgramGraph, passed_on, within

# x -> quantize -> conv (fused with relu) -> reorder -> cat <- y
#                                                     cat -> dequantize -> softmax, shape
KERNELS = (
    Kernel("Quantize", (), ("x",), ("xq",), conversions=("quantize",)),
    Kernel("Conv", ("conv", "relu"), ("xq", "w"), ("c",), int8=True),
    Kernel("Reorder", (), ("c",), ("r",), int8=True),
    Kernel("Cat", ("cat",), ("r", "y"), ("j",), int8=True),
    Kernel("Dequantize", (), ("j",), ("f",), conversions=("dequantize",)),
    Kernel("Softmax", ("softmax",), ("f",), ("s",)),
    Kernel("Shape", (), ("f",), ("n",)),
)
DTYPES = {"x": "f32", "xq": "u8", "w": "i8", "c": "u8", "r": "u8", "y": "u8", "j": "u8", "f": "f32"}


@pytest.fixture
def graph() -> ProgramGraph:
    return ProgramGraph(KERNELS, DTYPES, delegate=3)


def test_each_operator_of_a_kernel_is_listed_with_its_types(graph: ProgramGraph) -> None:
    found = list(graph.operators())
    assert [(each.origin, each.operator, each.int8) for each in found] == [
        ("conv", "Conv", True),
        ("relu", "Conv", True),
        (None, "Reorder", True),
        ("cat", "Cat", True),
        ("softmax", "Softmax", False),
        (None, "Shape", False),
    ]
    assert found[0] == LoweredOperator("conv", "Conv", True, 3, ("u8", "i8"), ("u8",))
    assert found[4].gives == ()  # a tensor without a dtype


def test_a_conversion_has_the_nearest_operators_on_both_sides(graph: ProgramGraph) -> None:
    assert list(graph.conversions()) == [
        Conversion("quantize", 3, producers=(), consumers=("conv",)),
        Conversion("dequantize", 3, producers=("cat",), consumers=("softmax",)),
    ]


def chain(*middle: Kernel) -> Iterator[Conversion]:
    first = Kernel("Conv", ("conv", "relu"), ("x",), ("a",))
    last = Kernel("Mul", ("mul", "add"), ("b", "b"), ("c",))
    return ProgramGraph([first, *middle, last], {}).conversions()


def test_a_kernel_of_several_operators_ends_with_its_last_and_begins_with_its_first() -> None:
    (found,) = chain(Kernel("Requantize", (), ("a",), ("b",), conversions=("requantize",)))
    assert (found.producers, found.consumers) == (("relu",), ("mul",))


def test_neighbours_are_found_through_kernels_without_an_operator_and_named_once() -> None:
    (found,) = chain(
        Kernel("Copy", (), ("a",), ("a1", "a2")),
        Kernel("Dequantize", (), ("a1", "a2"), ("b1",), conversions=("dequantize",)),
        Kernel("Copy", (), ("b1",), ("b",)),
    )
    assert (found.producers, found.consumers) == (("relu",), ("mul",))


def test_one_kernel_may_convert_twice() -> None:
    both = Kernel("FakeQuantize", (), ("a",), ("b",), conversions=("quantize", "dequantize"))
    assert [each.kind for each in chain(both)] == ["quantize", "dequantize"]


def test_what_nothing_is_left_of_is_within_its_host() -> None:
    host = LoweredOperator("conv", "Conv", True, 3, ("u8",), ("f32",))
    assert within(host, "relu") == LoweredOperator("relu", "within Conv", True, 3)
    assert within(within(host, "relu"), "copy").operator == "within Conv"


@pytest.mark.parametrize(("dtype", "int8"), [("u8", True), ("int8", True), ("f32", False)])
def test_what_only_passes_a_value_on_has_the_type_of_the_value(dtype: str, int8: bool) -> None:
    giver = LoweredOperator("conv", "Conv", True, 3, ("u8",), (dtype,))
    wanted = LoweredOperator("copy", "within Conv", int8, 3, (dtype,), (dtype,))
    assert passed_on(giver, "copy") == wanted
