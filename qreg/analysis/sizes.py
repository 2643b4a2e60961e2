"""Size in bytes of the parameters of a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def parameter_bytes(program: ExportedProgram) -> int:
    """Return the size of a program's parameters, buffers and constants in bytes.

    Tied parameters and overlapping views are counted once.
    """
    values = chain(program.state_dict.values(), program.constants.values())
    return tensor_bytes(value for value in values if isinstance(value, Tensor))


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes that tensors occupy together; overlapping bytes are counted once."""
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for each in tensors:
        if each.numel():
            start, end = _span(each)
            spans[each.untyped_storage().data_ptr()].append((start, end))
    return sum(_covered(each) for each in spans.values())


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte that a tensor uses in its storage, and the byte after its last."""
    strides = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in strides)
    start = int(tensor.storage_offset()) * tensor.element_size()
    return start, start + int(last + 1) * tensor.element_size()


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    covered = reached = 0
    for start, end in sorted(spans):
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return covered
