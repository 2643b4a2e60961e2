"""Pins what is said of a batch that does not fit the model: which batch, which input, and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from qreg.errors import CalibrationError, InputError
from qreg.inputs.batches import checked
from qreg.inputs.signature import Signature
from qreg.inputs.specs import InputSpec, arguments, flat, input_specs


class TwoInputs(nn.Module):
    def forward(self, image: Tensor, index: Tensor) -> Tensor:
        return image + index


GOOD = (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64))


@pytest.fixture(scope="module")
def program() -> ExportedProgram:
    shapes = ({0: Dim("batch", min=1, max=8)}, None)
    return torch.export.export(TwoInputs(), GOOD, dynamic_shapes=shapes)


@pytest.fixture(scope="module")
def signature(program: ExportedProgram) -> Signature:
    return Signature.of_program(program)


def test_a_program_has_one_spec_for_each_input(program: ExportedProgram) -> None:
    assert input_specs(program) == [
        InputSpec("image", (None, 3), torch.float32),
        InputSpec("index", (3,), torch.int64),
    ]


@pytest.mark.parametrize(
    ("batch", "input_", "problem"),
    [
        (GOOD[:1], None, r"has 1 input \(expected 2: image, index\)"),
        ((*GOOD, GOOD[0]), None, r"has 3 inputs \(expected 2"),
        ((torch.zeros(2, 4), GOOD[1]), "image", r"shape \(2, 4\), .* with \(any, 3\)"),
        ((torch.zeros(2), GOOD[1]), "image", r"shape \(2,\), .* with \(any, 3\)"),
        ((GOOD[0], torch.zeros(4, dtype=torch.int64)), "index", r"shape \(4,\), .* with \(3,\)"),
        ((GOOD[0].double(), GOOD[1]), "image", "dtype torch.float64, .* with torch.float32"),
        ((GOOD[0], 3), "index", r"is an int \(expected a tensor\)"),
    ],
)
def test_a_misfit_names_batch_input_and_problem(
    batch: Any, input_: str | None, problem: str, signature: Signature
) -> None:
    with pytest.raises(CalibrationError, match=f"calibration batch 1: .*{problem}") as caught:
        list(checked([GOOD, batch], signature))
    assert (caught.value.batch, caught.value.input) == (1, input_)


def test_one_batch_in_place_of_a_list_is_told_from_one_that_does_not_fit(
    signature: Signature,
) -> None:
    with pytest.raises(CalibrationError, match=r"^calibration batches: they are one batch"):
        list(checked(GOOD, signature))
    with pytest.raises(CalibrationError, match=r"^calibration batch 0: has 1 input"):
        list(checked(GOOD[:1], signature))


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_dynamic_dimension_takes_any_size(size: int, signature: Signature) -> None:
    batch = (torch.zeros(size, 3), GOOD[1])
    assert list(checked([batch], signature)) == [batch]


def test_batches_are_checked_one_at_a_time(signature: Signature) -> None:
    batches = iter(checked([GOOD, GOOD[:1]], signature))
    assert next(iter(batches)) == GOOD
    with pytest.raises(CalibrationError):
        next(batches)


def test_nested_inputs_are_taken_flat(signature: Signature) -> None:
    assert signature.leaves({"image": GOOD[0], "index": GOOD[1]}) == list(GOOD)
    assert flat(((GOOD[0],), GOOD[1])) == list(GOOD)


def test_a_lone_tensor_is_the_only_argument() -> None:
    assert arguments(GOOD[0]) == (GOOD[0],)
    assert arguments(list(GOOD)) == GOOD


def test_an_input_that_is_no_tensor_is_refused_by_name() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, factor: float) -> Tensor:
            return x * factor

    program = torch.export.export(Scaled(), (GOOD[0], 2.0))
    with pytest.raises(InputError, match=r"input 'factor' of the model is .*tensors only"):
        input_specs(program)


def test_a_dict_gives_the_inputs_by_name() -> None:
    signature = Signature(
        [InputSpec("ids", (2,), torch.int64), InputSpec("mask", (2,), torch.float32)]
    )
    ids, mask = torch.ones(2).long(), torch.zeros(2)
    ((first, second),) = checked([{"mask": mask, "ids": ids}], signature)
    assert first is ids
    assert second is mask


def test_a_dict_of_other_names_lists_those_of_the_model() -> None:
    signature = Signature([InputSpec("ids", (2,), torch.int64)])
    with pytest.raises(CalibrationError, match=r"batch 0: has the inputs x \(expected ids\)"):
        list(checked([{"x": torch.ones(2)}], signature))


def test_nan_in_a_batch_is_named() -> None:
    signature = Signature([InputSpec("x", (2,), torch.float32)])
    with pytest.raises(CalibrationError, match="batch 1: input 'x': holds NaN"):
        list(checked([torch.ones(2), torch.tensor([1.0, torch.nan])], signature))
