"""Convert models in half precision to float32, which backends quantize from."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from attrs import frozen
from torch.utils import _pytree as pytree

from qreg.errors import InputError, PrecisionWarning
from qreg.inputs.arrays import as_tensor
from qreg.plugins.types.backend import Backend

HALF = (torch.float16, torch.bfloat16)
Transform = Callable[[Any], Any]


@frozen
class Given:
    """A model with its example inputs and the transform of its batches, in one precision.

    ``notes`` are for the report: the conversion, if there was one.
    """

    model: Any
    example_inputs: Any
    transform: Transform | None
    notes: tuple[str, ...] = ()


def to_float32(
    model: object, example_inputs: Any, transform: Transform | None, backends: Iterable[Backend]
) -> Given:
    """Return a module in half precision, its inputs and its batches in float32.

    A module has half precision if all its weights do, in a type that not all backends quantize
    from. The module is copied. Any other model is returned as it is. Warns with a
    :class:`~qreg.errors.PrecisionWarning`, and raises ``InputError`` for a module that cannot be
    copied.
    """
    half = _half(model)
    if half is None or all(half in each.dtypes for each in backends):
        return Given(model, example_inputs, transform)
    note = (
        f"the model is in {half.removeprefix('torch.')}, and was converted to float32, which is "
        "quantized: its programs take and return float32"
    )
    warnings.warn(note, PrecisionWarning, stacklevel=4)  # in the caller of the public function

    def converted(batch: Any) -> Any:
        return _cast(batch if transform is None else transform(batch))

    return Given(_copy(model), _cast(example_inputs), converted, (note,))


def _half(model: object) -> str | None:
    """Return the type of a module's weights if it is one of half precision; None otherwise."""
    if not isinstance(model, torch.nn.Module):
        return None
    weights = list(model.parameters())
    if any(hasattr(type(each), "__tensor_flatten__") for each in weights):
        return None  # quantized already, which is an error later
    dtypes = {each.dtype for each in weights if each.is_floating_point()}
    return str(min(dtypes, key=str)) if dtypes and dtypes <= set(HALF) else None


def _copy(model: Any) -> torch.nn.Module:
    """Return a module in float32; other objects that hold its tensors, such as caches, hold those.

    ``Module.float`` replaces buffers, so that caches would hold the old ones.
    """
    try:
        copied: torch.nn.Module = copy.deepcopy(model)
    except Exception as cause:  # raised by a member
        raise InputError(
            f"model: it is in half precision, and cannot be copied to convert it: {cause} "
            "(expected float32, or a module that can be copied). Pass model.float()."
        ) from cause
    for tensor in (*copied.parameters(), *copied.buffers()):
        if tensor.dtype in HALF:
            tensor.data = tensor.data.float()
    return copied


def _cast(values: Any) -> Any:
    return pytree.tree_map(_widened, values)


def _widened(value: Any) -> Any:
    tensor = as_tensor(value)
    is_half = isinstance(tensor, torch.Tensor) and tensor.dtype in HALF
    return tensor.float() if is_half else value
