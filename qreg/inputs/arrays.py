"""numpy arrays in place of tensors."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from qreg.errors import InputError


def is_array(value: object) -> bool:
    """Whether a value is a numpy array or a numpy scalar. Does not import numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))


def as_tensor(value: Any) -> Any:
    """Return a numpy array as a tensor of its dtype, with a copy of its values.

    Any other value is returned as it is, and so is an array of a dtype that torch does not have.
    """
    if not is_array(value):
        return value
    try:
        return torch.as_tensor(value.astype(value.dtype.newbyteorder("="), order="C"))
    except TypeError:  # objects, strings, dates
        return value


def as_tensors(values: Any) -> Any:
    """Return a tree of values with numpy arrays as tensors."""
    return pytree.tree_map(as_tensor, values)


def has_arrays(values: Any) -> bool:
    """Whether any value of a tree is an array."""
    return any(map(is_array, pytree.tree_leaves(values)))


def check_precision(model: torch.nn.Module, values: Any) -> None:
    """Raise ``InputError`` for an array of a floating-point dtype that no parameter has.

    numpy makes float64 arrays by default, which torch.export would record as the type of the input.
    A model without floating-point parameters accepts arrays of any dtype.
    """
    dtypes = set(_floating([*model.parameters(), *model.buffers()]))
    arrays = [as_tensor(value) for value in pytree.tree_leaves(values) if is_array(value)]
    for dtype in _floating(arrays):
        if dtypes and dtype not in dtypes:
            known = " or ".join(sorted(map(_plain, dtypes)))
            raise InputError(
                f"example_inputs: an array has dtype {_plain(dtype)} (expected {known}, the dtype "
                f'of the parameters). Convert it with .astype("{_plain(min(dtypes, key=str))}"), '
                "or pass a tensor if the model converts it."
            )


def _floating(values: Iterable[Any]) -> Iterable[torch.dtype]:
    tensors = (each for each in values if isinstance(each, torch.Tensor))
    return (each.dtype for each in tensors if each.is_floating_point())


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
