"""Check that models and inputs are on the CPU, where programs are made, calibrated and checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from qreg.errors import InputError

VALUELESS = "which holds no values"


def is_valueless(value: Tensor) -> bool:
    """Whether a tensor has a shape and a dtype alone."""
    return value.is_meta or isinstance(value, FakeTensor)


def device_problem(value: Tensor) -> str | None:
    """Return why an input cannot be read on the CPU, with the remedy, or None if it can be."""
    if is_valueless(value):
        return f"is {_where(value)}, {VALUELESS} (expected cpu). Load the data onto the CPU."
    if value.device.type != "cpu":
        return f"is on device {value.device} (expected cpu). Move it with .cpu()."
    return None


def check_devices(model: torch.nn.Module | ExportedProgram, example: Any) -> None:
    """Raise ``InputError`` for a model or example inputs that are not on the CPU."""
    is_program = isinstance(model, ExportedProgram)
    for name, value in _tensors(model):
        if is_valueless(value):
            raise InputError(
                f"model: {name!r} is {_where(value)}, {VALUELESS} (expected cpu). Create the model "
                "on the CPU, or call model.to_empty(device='cpu'), and load its weights."
            )
        if value.device.type != "cpu":
            remedy = (
                "torch.export.passes.move_to_device_pass(program, 'cpu')"
                if is_program
                else "model.cpu()"
            )
            raise InputError(
                f"model: {name!r} is on device {value.device} (expected cpu). Move the model "
                f"with {remedy}."
            )
    for number, value in enumerate(pytree.tree_leaves(example)):
        problem = device_problem(value) if isinstance(value, Tensor) else None
        if problem:
            raise InputError(f"example_inputs: input {number} {problem}")


def _tensors(model: torch.nn.Module | ExportedProgram) -> Iterable[tuple[str, Tensor]]:
    if isinstance(model, ExportedProgram):
        stored = {**model.state_dict, **model.constants}
        return [(name, each) for name, each in stored.items() if isinstance(each, Tensor)]
    return [*model.named_parameters(), *model.named_buffers()]


def _where(value: Tensor) -> str:
    return "on the meta device" if value.is_meta else "a fake tensor"
