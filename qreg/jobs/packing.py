"""Models and tensors as bytes, in which they travel to workers."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qreg.errors import InputError

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def packed_function(function: Callable[..., Any], what: str) -> bytes:
    """Return a function as bytes, with what it refers to unless workers can import that.

    ``what`` is what errors call it. Raises ``InputError`` for one that cannot be pickled.
    """
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(function)
    except Exception as cause:  # raised by what it refers to
        raise InputError(
            f"{what}: it cannot be sent to other processes: {cause} (expected a function that can "
            "be pickled with what it refers to). Use one of a module, or workers=1"
        ) from cause
    return data


def unpacked_function(data: bytes, what: str) -> Callable[..., Any]:
    """Return a function from :func:`packed_function` of the process that started the job.

    Raises ``InputError`` if this process cannot import what it refers to.
    """
    try:
        function: Callable[..., Any] = pickle.loads(data)
    except Exception as cause:  # raised by an import
        raise InputError(
            f"{what}: a worker cannot import what it refers to: {type(cause).__name__}: {cause} "
            "(expected modules of installed packages, or of the folder that the worker runs in). "
            "Install the module there, or define the function inside of another, or use workers=1"
        ) from cause
    return function


def packed_program(program: ExportedProgram) -> bytes:
    """Return what ``torch.export.save`` writes."""
    import torch

    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def unpacked_program(data: bytes) -> ExportedProgram:
    """Return a program from :func:`packed_program` of the process that started the job."""
    import torch

    return torch.export.load(io.BytesIO(data))


def packed(value: Any) -> bytes:
    """Return tensors, and the tuples, lists and dicts they are in, as ``torch.save`` writes them.

    Views are stored without the rest of their memory.
    """
    import torch
    from torch.utils import _pytree as pytree

    buffer = io.BytesIO()
    torch.save(pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, value), buffer)
    return buffer.getvalue()


def unpacked(data: bytes) -> Any:
    """Return what :func:`packed` was called with. Nothing but tensors and plain data is read."""
    import torch

    return torch.load(io.BytesIO(data), weights_only=True)
