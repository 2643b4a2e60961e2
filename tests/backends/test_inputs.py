"""What a program accepts is checked and named, in torch's words whatever its runtime calls it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from qreg.backends.inputs import TensorSpec, check_inputs, dtype_name, misfit
from qreg.errors import InputError

ROWS = TensorSpec("float32", (None, 8))
IDS = TensorSpec("int64", (4,))


@pytest.mark.parametrize(
    ("runtime", "name"),
    [
        *(("tensor(float)", "float32"), ("tensor(double)", "float64"), ("tensor(uint8)", "uint8")),
        *(("f16", "float16"), ("bf16", "bfloat16"), ("i64", "int64"), ("boolean", "bool")),
        *(("FP32", "float32"), ("BF16", "bfloat16"), ("INT48", "int48"), ("BOOL", "bool")),
        *(("FLOAT", "float32"), ("LONG", "int64"), ("CHAR", "int8"), ("BYTE", "uint8")),
        *((torch.int32, "int32"), (torch.bfloat16, "bfloat16"), ("string", "string")),
    ],
)
def test_a_dtype_has_one_name_in_all_runtimes(runtime: object, name: str) -> None:
    assert dtype_name(runtime) == name


def test_sizes_that_are_no_numbers_are_dynamic() -> None:
    assert TensorSpec.of("f32", ["batch", 8]) == ROWS
    assert str(ROWS) == "float32 (any, 8)"
    assert str(IDS) == "int64 (4,)"
    assert str(TensorSpec("bool", ())) == "bool ()"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([torch.ones(3, 8)], "1 input"),
        ([torch.ones(3, 8).double(), torch.zeros(4).long()], "input 0 has another type"),
        ([torch.ones(3, 9), torch.zeros(4).long()], "input 0 has another shape"),
        ([torch.ones(8), torch.zeros(4).long()], "input 0 has another shape"),
        ([torch.ones(3, 8), torch.zeros(4)], "input 1 has another type"),
    ],
)
def test_inputs_that_do_not_fit_are_set_against_those_that_would(
    given: Sequence[Tensor], problem: str
) -> None:
    with pytest.raises(InputError) as raised:
        check_inputs([ROWS, IDS], given)
    got = ", ".join(f"{str(each.dtype)[6:]} {tuple(each.shape)}" for each in given)
    expected = "float32 (any, 8), int64 (4,)"
    assert str(raised.value) == f"{problem} (expected {expected}, got {got})"


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_inputs_that_fit_pass(rows: int) -> None:
    check_inputs([ROWS, IDS], [torch.ones(rows, 8), torch.zeros(4).long()])


def test_no_inputs_are_nothing() -> None:
    assert str(misfit("no", [], [])) == "no (expected nothing, got nothing)"


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
def test_an_example_is_an_input(dtype: str) -> None:
    spec = TensorSpec(dtype, (None, 3))
    made = spec.example()
    assert spec.problem(made) is None
    assert made.shape == (1, 3)
