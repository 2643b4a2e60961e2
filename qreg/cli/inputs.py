"""The model and the data of a command, read in the same way by every command."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg.cli.data import data_file, read_data
from qreg.cli.forms import DataOptions
from qreg.cli.models import Model, read_model
from qreg.cli.pretrained import read_pretrained
from qreg.errors import InputError

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram


@frozen
class Inputs:
    """A model with its example inputs, which are None for a program, and batches, if any."""

    model: nn.Module | ExportedProgram
    example: Any
    batches: Iterable[Any] | None

    @property
    def required(self) -> Iterable[Any]:
        """The batches of a command that cannot do without."""
        return self.batches or ()


def read_inputs(model: str, data: str | None, option: str, given: DataOptions) -> Inputs:
    """Return the model and the batches that a command names.

    A text is read with the tokenizer in the folder of the model, if no other is given.

    Raises ``InputError`` as :func:`read_model`, :func:`read_pretrained` and :func:`read_data`.
    """
    found = _model(model, given)
    if given["hf"]:
        given = _with_tokenizer(given, model, data)
    batches = read_data(data, option, given, _names(found)) if data else None
    found = found.with_example(batches, f"MODEL {model!r}")
    return Inputs(found.model, found.example, batches)


def _model(text: str, given: DataOptions) -> Model:
    if given["hf"]:
        return read_pretrained(Path(text), given["task"])
    if given["task"] is not None:
        raise InputError("--task: it is only for a folder of transformers. Pass --hf.")
    return read_model(text)


def _with_tokenizer(given: DataOptions, folder: str, data: str | None) -> DataOptions:
    path = data_file(data)
    if given["tokenizer"] or path is None or path.suffix != ".txt":
        return given
    return {**given, "tokenizer": Path(folder)}


def _names(model: Model) -> set[str]:
    """Return the names of a model's inputs."""
    from inspect import signature

    from torch import nn

    from qreg.inputs.specs import input_specs

    if isinstance(model.model, nn.Module):
        return set(signature(model.model.forward).parameters)
    return {spec.name for spec in input_specs(model.model)}
