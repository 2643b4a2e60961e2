"""Give the inputs and the weights of a program the order of their dimensions in memory.

A program takes contiguous inputs: the tensors of a file have no strides. A program that was
exported with an image of channels last, such as ``torch.from_numpy(frame).permute(2, 0, 1)[None]``,
reads the memory of an input in that order, which the runtime does not check (executorch 1.4.1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from qreg.graph.compat import size_hint
from qreg.programs.copying import copied

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def contiguous(values: Any) -> Any:
    """Return a tree of values with contiguous tensors."""
    return pytree.tree_map_only(torch.Tensor, torch.Tensor.contiguous, values)


def in_order(program: ExportedProgram) -> ExportedProgram:
    """Return a program whose inputs are contiguous, and whose weights have no channels last.

    A program that is so is returned as it is; another one is not changed. The values are the same.
    """
    inputs = set(program.graph_signature.user_inputs)
    named = {node.name: node.meta.get("val") for node in program.graph.find_nodes(op="placeholder")}
    weights = {name for name, value in program.state_dict.items() if _has_channels_last(value)}
    targets = {
        spec.arg.name for spec in program.graph_signature.input_specs if spec.target in weights
    }
    other = {name for name in inputs if _is_in_other_order(named.get(name))} | targets
    if not other:
        return program
    found = copied(program)
    for node in found.graph.find_nodes(op="placeholder"):
        if node.name in other:
            node.meta["val"] = node.meta["val"].contiguous()
    for name in weights:
        found.state_dict[name] = _weight(found.state_dict[name])
    return found


def _weight(value: torch.Tensor) -> torch.Tensor:
    laid = value.detach().contiguous()
    trained = isinstance(value, torch.nn.Parameter)
    return torch.nn.Parameter(laid, value.requires_grad) if trained else laid


def _has_channels_last(value: torch.Tensor) -> bool:
    order = LAST.get(value.dim())
    return (
        order is not None and not value.is_contiguous() and value.is_contiguous(memory_format=order)
    )


def _is_in_other_order(value: object) -> bool:
    """Whether a tensor of a graph is not contiguous at the sizes that it was exported with."""
    if not isinstance(value, torch.Tensor):
        return False
    shape, strides = (
        [size_hint(each) for each in sizes] for sizes in (value.shape, value.stride())
    )
    known = [each for each in (*shape, *strides) if each is not None]
    if len(known) < len(shape) + len(strides):
        return False
    return not torch.empty_strided(
        known[: len(shape)], known[len(shape) :], device="meta"
    ).is_contiguous()
