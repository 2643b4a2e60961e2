"""How many bytes the parameters of a model need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def parameter_bytes(program: ExportedProgram) -> int:
    """The bytes of a program's parameters, buffers and constants, each counted once.

    Parameters that are tied, and views of one another, share their bytes.
    """
    values = chain(program.state_dict.values(), program.constants.values())
    return tensor_bytes(value for value in values if isinstance(value, Tensor))


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """The bytes that tensors need together, those in which they overlap once."""
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for each in tensors:
        if each.numel():
            start, end = _span(each)
            spans[each.untyped_storage().data_ptr()].append((start, end))
    return sum(_covered(each) for each in spans.values())


def _span(tensor: Tensor) -> tuple[int, int]:
    """The first byte of its storage that a tensor uses, and the first that it does not."""
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
