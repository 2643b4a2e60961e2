"""Models and tensors as bytes, in which they travel to workers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram


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
