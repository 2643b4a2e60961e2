"""Check the inputs of a program, and report those that it does not accept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg.errors import InputError
from qreg.utils.shapes import fits, spelled
from qreg.utils.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

KINDS = {"f": "float", "fp": "float", "bf": "bfloat", "i": "int", "u": "uint"}
SHORT = re.compile(rf"({'|'.join(KINDS)})(\d+)")
NAMED = {
    **{"float": "float32", "double": "float64", "half": "float16", "boolean": "bool"},
    **{"long": "int64", "int": "int32", "short": "int16", "char": "int8", "byte": "uint8"},
}


def dtype_name(name: object) -> str:
    """Return torch's name, without ``torch.``, for a runtime's name of a dtype.

    >>> [dtype_name(each) for each in ("f32", "FP16", "INT8", "boolean", "tensor(float)")]
    ['float32', 'float16', 'int8', 'bool', 'float32']
    """
    plain = str(name).removeprefix("torch.").removeprefix("tensor(").removesuffix(")").lower()
    short = SHORT.fullmatch(plain)
    return f"{KINDS[short[1]]}{short[2]}" if short else NAMED.get(plain, plain)


@frozen
class TensorSpec:
    """A tensor that a program accepts: torch's name of its dtype, and None for a dynamic size."""

    dtype: str
    shape: tuple[int | None, ...]

    @classmethod
    def of(cls, dtype: object, shape: Iterable[Any]) -> TensorSpec:
        """Return the spec for a runtime's name of a dtype; sizes other than numbers are dynamic."""
        sizes = tuple(size if isinstance(size, int) else None for size in shape)
        return cls(dtype_name(dtype), sizes)

    @classmethod
    def of_tensor(cls, value: Tensor) -> TensorSpec:
        return cls.of(value.dtype, value.shape)

    def problem(self, value: Tensor) -> str | None:
        """Return why a tensor does not match this input, or None if it does."""
        if dtype_name(value.dtype) != self.dtype:
            return "has another type"
        return None if fits(value.shape, self.shape) else "has another shape"

    def example(self) -> Tensor:
        """Return a tensor that matches, to time a program with; dynamic sizes are 1."""
        import torch

        dtype, sizes = getattr(torch, self.dtype), [1 if n is None else n for n in self.shape]
        made = torch.randn(sizes) if dtype.is_floating_point else torch.randint(0, 2, sizes)
        return made.to(dtype)

    def __str__(self) -> str:
        return f"{self.dtype} {spelled(self.shape)}"


def check_inputs(wanted: Sequence[TensorSpec], given: Sequence[Tensor]) -> None:
    """Raise ``InputError`` for inputs whose number, dtype or shape a program does not accept."""
    if len(given) != len(wanted):
        raise misfit(counted(len(given), "input"), wanted, given)
    for number, (spec, value) in enumerate(zip(wanted, given, strict=True)):
        problem = spec.problem(value)
        if problem:
            raise misfit(f"input {number} {problem}", wanted, given)


def misfit(problem: object, wanted: Iterable[TensorSpec], given: Iterable[Tensor]) -> InputError:
    """Return the error for rejected inputs, with the expected and the received tensors."""
    accepted, got = (
        ", ".join(map(str, specs)) or "nothing"
        for specs in (wanted, map(TensorSpec.of_tensor, given))
    )
    return InputError(f"{str(problem).rstrip('.')} (expected {accepted}, got {got})")
