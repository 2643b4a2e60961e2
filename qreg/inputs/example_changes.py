"""Find the change to example inputs with which a module exports that does not export as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from torch.utils import _pytree as pytree

from qreg.errors import ExportError
from qreg.inputs.misfits import cast

MOST_INPUTS = 4  # above which inputs are changed together only
CHANNELS = 4  # of an image at most, if they come last
ORDERS = {3: (2, 0, 1), 4: (0, 3, 1, 2)}  # from channels last to channels first


@frozen
class Change:
    """A change to a tensor: the call that makes it, and whether it is worth a try."""

    spelled: Callable[[Tensor], str]
    make: Callable[[Tensor], Tensor]
    may_help: Callable[[Tensor], bool]


ADD_BATCH = Change(lambda _: ".unsqueeze(0)", lambda value: value.unsqueeze(0), lambda _: True)
CHANNELS_FIRST = Change(
    lambda value: f".permute{ORDERS[value.dim()]}",
    lambda value: value.permute(ORDERS[value.dim()]).contiguous(),
    lambda value: value.dim() in ORDERS and value.shape[-1] <= CHANNELS,
)


def to_dtype(dtype: torch.dtype) -> Change:
    """Return the change to the dtype of the parameters."""
    return Change(
        lambda _: cast(str(dtype)),
        lambda value: value.to(dtype),
        lambda value: value.dtype not in (dtype, torch.bool),
    )


def what_helps(model: torch.nn.Module, example: Any, export: Callable[[Any], object]) -> str | None:
    """Return a sentence on the first change with which ``export`` succeeds, or None.

    ``export`` raises ``ExportError`` for inputs that the model does not accept.
    """
    leaves, structure = pytree.tree_flatten(example)
    for changes in _chains(_dtype_of(model)):
        for chosen in _choices(leaves, changes):
            changed = [_made(v, changes) if at in chosen else v for at, v in enumerate(leaves)]
            try:
                export(pytree.tree_unflatten(changed, structure))
            except ExportError:
                continue
            return _sentence(leaves, chosen, changes)
    return None


def _dtype_of(model: torch.nn.Module) -> torch.dtype:
    dtypes = [each.dtype for each in model.parameters() if each.is_floating_point()]
    return dtypes[0] if dtypes else torch.get_default_dtype()


def _chains(dtype: torch.dtype) -> Iterator[tuple[Change, ...]]:
    cast_first = to_dtype(dtype)
    for moves in ((), (ADD_BATCH,), (CHANNELS_FIRST,), (CHANNELS_FIRST, ADD_BATCH)):
        if moves:
            yield moves
        yield (cast_first, *moves)


def _choices(leaves: Sequence[Any], changes: Sequence[Change]) -> Iterator[tuple[int, ...]]:
    """Yield the positions of the tensors to change: all that may help, then each alone."""
    found = [
        at
        for at, value in enumerate(leaves)
        if isinstance(value, Tensor) and all(change.may_help(value) for change in changes)
    ]
    if found:
        yield tuple(found)
    if 1 < len(found) <= MOST_INPUTS:
        yield from ((at,) for at in found)


def _made(value: Tensor, changes: Sequence[Change]) -> Tensor:
    for change in changes:
        value = change.make(value)
    return value


def _sentence(leaves: Sequence[Tensor], chosen: Sequence[int], changes: Sequence[Change]) -> str:
    each = "; ".join(
        f"{''.join(change.spelled(leaves[at]) for change in changes)} on input {at}, "
        f"{str(leaves[at].dtype).removeprefix('torch.')} {tuple(leaves[at].shape)}"
        for at in chosen
    )
    is_cast = any(change not in (ADD_BATCH, CHANNELS_FIRST) for change in changes)
    scaled = is_cast and any(not leaves[at].dtype.is_floating_point for at in chosen)
    how = f"so{', scaled as for the float model' if scaled else ''}"
    return f"It exports with {each}. Change example_inputs and the calibration batches {how}."
