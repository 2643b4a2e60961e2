"""Recognize what is passed in place of a model, and name the way to a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from qreg.errors import InputError
from qreg.programs.recognition import EXPORTED, recognized
from qreg.utils.wording import a_type

EXPECTED = "expected a torch.nn.Module or an ExportedProgram"
LOAD_STATE = "Load it into its module: module.load_state_dict(...)"
SCRIPTED = (
    "a TorchScript module ({}), which torch.export does not accept ({}). Pass the module that it "
    "was scripted or traced from."
)


def check_model(model: object) -> None:
    """Raise ``InputError`` for an object that cannot be exported, with the way to one that can."""
    if isinstance(model, ExportedProgram):
        return
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"model: it is {_recognized(model)}")
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            which = f"its module {path!r} is " if path else "it is "
            raise InputError(f"model: {which}{SCRIPTED.format(type(module).__name__, EXPECTED)}")


def _recognized(model: object) -> str:
    if isinstance(model, Mapping):
        return f"{_state(model)} ({EXPECTED}). {LOAD_STATE}, and pass the module."
    if isinstance(model, (str, PathLike)):
        return _path(Path(model))
    if isinstance(model, torch.ScriptFunction):
        return SCRIPTED.format("ScriptFunction", EXPECTED)
    if isinstance(model, type):
        return f"the class {model.__name__} ({EXPECTED}). Pass an instance, {model.__name__}(...)."
    if callable(model):
        name = getattr(model, "__qualname__", type(model).__name__)
        return f"the function {name} ({EXPECTED}). Call it in forward() of a torch.nn.Module."
    return f"{a_type(model)} ({EXPECTED})"


def _state(model: Mapping[Any, Any]) -> str:
    """Describe a mapping: a state dict, a checkpoint with one, or another."""
    if _is_state(model):
        return "a state dict, which has weights without the code that uses them"
    inside = next(_states_in(model), None)
    if inside is not None:
        return f"a checkpoint, with a state dict under {inside!r}"
    return f"a {type(model).__name__}"


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(each, str) for each in value)
        and any(isinstance(each, torch.Tensor) for each in value.values())
    )


def _states_in(model: Mapping[Any, Any]) -> Iterator[Any]:
    return (name for name, value in model.items() if _is_state(value))


def _path(path: Path) -> str:
    found = recognized(path) if path.exists() else None
    if found is None or found.what == EXPORTED:
        return f"the path {str(path)!r} ({EXPECTED}). Pass torch.export.load({str(path)!r})."
    return f"the path of a file that is {found.what} ({EXPECTED}). {found.way}"
