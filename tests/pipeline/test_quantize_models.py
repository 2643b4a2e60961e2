"""Pins which models and programs are quantized, and that they stay as they were."""

from __future__ import annotations

import io
from types import ModuleType

import pytest
import torch
from quantizing import Net, X, batches, quantize
from torch import Tensor, nn
from torch.export import Dim

from qreg import Registry, errors


def test_a_model_in_train_mode_stays_in_it(registry: Registry) -> None:
    model = Net().train()
    model.fc.eval()
    quantize(registry, model)
    assert (model.training, model.fc.training) == (True, False)


def test_the_model_keeps_its_weights(registry: Registry) -> None:
    model = Net()
    before = model.fc.weight.clone()
    quantize(registry, model)
    assert torch.equal(model.fc.weight, before)


def test_operators_under_no_grad_are_quantized(registry: Registry) -> None:
    class Frozen(Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(x)

    assert quantize(registry, Frozen()).decided == {"annotated": 3}


def test_a_model_that_does_not_export_is_an_export_error(registry: Registry) -> None:
    class DataDependent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(errors.ExportError, match="DataDependent") as caught:
        quantize(registry, DataDependent())
    assert caught.value.__cause__ is not None


def test_a_model_needs_example_inputs(registry: Registry) -> None:
    with pytest.raises(errors.InputError, match="example_inputs is missing"):
        quantize(registry, example=None)


def test_a_model_with_several_inputs_and_outputs_is_compared_by_output(registry: Registry) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return x + y, y + y

    pairs = list(zip(batches(3), batches(3), strict=True))
    found = quantize(registry, Two(), pairs[0], calibration=pairs).verification
    assert found is not None
    assert len(found.to_float) == len(found.to_converted) == 2


def test_an_exported_program_needs_no_example(
    program: torch.export.ExportedProgram, registry: Registry
) -> None:
    assert quantize(registry, program, None).decided == {"annotated": 3}


def test_a_program_saved_without_an_example_asks_for_one(registry: Registry) -> None:
    program = torch.export.export(Net().eval(), (X,))
    program._example_inputs = None
    with pytest.raises(errors.InputError, match="without example inputs: pass example_inputs"):
        quantize(registry, program, None)
    assert quantize(registry, program, X).decided == {"annotated": 3}


def test_an_example_that_does_not_fit_the_program_is_refused(
    program: torch.export.ExportedProgram, registry: Registry
) -> None:
    with pytest.raises(errors.InputError, match="input 'x': has shape"):
        quantize(registry, program, torch.zeros(8, 5))


def test_dynamic_dimensions_go_through_to_the_program(
    program: torch.export.ExportedProgram, registry: Registry, toy: ModuleType
) -> None:
    mixed = [*batches(1, 3, 4), *batches(1, 17, 4)]
    found = quantize(registry, program, None, calibration=mixed)
    run = toy.load(found.program)
    assert [run([torch.zeros(size, 4)])[0].shape[0] for size in (2, 9, 64)] == [2, 9, 64]
    loaded = torch.export.load(io.BytesIO(found.program))
    assert list(loaded.range_constraints.values()) == list(program.range_constraints.values())


def test_dynamic_dimensions_are_given_with_a_model(registry: Registry, toy: ModuleType) -> None:
    found = quantize(registry, dynamic_shapes=({0: Dim("batch", min=2, max=64)},))
    assert toy.load(found.program)([torch.zeros(33, 4)])[0].shape == (33, 4)
