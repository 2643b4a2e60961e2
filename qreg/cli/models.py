"""The model of a command: a file of ``torch.export.save``, or what code makes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg.cli.code import called, found, is_code
from qreg.errors import InputError
from qreg.utils.wording import a_type

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram


@frozen
class Model:
    """A model, and its example inputs; those are None for a program that has its own."""

    model: nn.Module | ExportedProgram
    example: Any = None

    def with_example(self, batches: Iterable[Any] | None, name: str) -> Model:
        """Return the model with the first batch as its example inputs, if it needs some.

        Raises ``InputError`` for a module without any.
        """
        from torch import nn

        if not isinstance(self.model, nn.Module) or self.example is not None:
            return self
        for batch in batches or ():
            return Model(self.model, batch)
        raise InputError(
            f"{name}: the module has no example inputs (expected some, to export it with). Pass "
            "--calibration, or let the function return the pair (module, example inputs)."
        )


def model_file(text: str) -> Path | None:
    """Return the file that a command names as its model, or None for code."""
    return None if is_code(text) else Path(text)


def beside(text: str, suffix: str) -> Path:
    """Return the default path for what is made from a model, never the model's own.

    It is next to the model's file, or in the current folder by the name of a function.
    """
    file = model_file(text)
    if file is None:
        return Path(text.rpartition(":")[2] + suffix)
    if not file.name:  # a folder, which is reported when it is read
        return file / f"model{suffix}"
    if file.is_dir():  # a dot in its name begins no suffix
        return file.with_name(file.name + suffix)
    return file.with_suffix(f".quantized{suffix}" if file.suffix == suffix else suffix)


def read_model(text: str) -> Model:
    """Return the model of that name.

    A file is read without executing code in it. Code is imported: a module, a program, or a
    function or class that is called without arguments and returns either, or a pair of it and its
    example inputs.

    Raises ``InputError`` for what is none of these, and for code that raises, with its line.
    """
    from qreg.programs.files import read_program

    file = model_file(text)
    if file is not None:
        return Model(read_program(file))
    value = found(text, "MODEL", "NAME")
    if not _is_model(value) and callable(value):
        value = called(value, f"MODEL {text!r}")
    example = None
    if isinstance(value, tuple) and len(value) == 2:
        value, example = value
    if not _is_model(value):
        raise InputError(
            f"MODEL {text!r}: it is {a_type(value)} (expected a module, a program, or a "
            "function that returns one, alone or in a pair with its example inputs). Name one."
        )
    return Model(value, example)


def _is_model(value: object) -> bool:
    from torch import nn
    from torch.export import ExportedProgram

    return isinstance(value, (nn.Module, ExportedProgram))
