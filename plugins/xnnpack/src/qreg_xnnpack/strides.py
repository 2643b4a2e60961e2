"""Constants with the strides of their shape, which executorch 1.4.1 requires.

It derives the order of a tensor's dimensions from the strides, also of dimensions of size 1, whose
strides have no effect: an attention bias for one head, permuted, is taken for an image with the
channels last. The delegate then returns wrong values, or an operator outside of it, which requires
the same order of all its inputs, does not run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram


def with_plain_strides(program: ExportedProgram) -> None:
    """Copy constants with other strides than those of a new tensor of their shape, in place.

    Strides of operators downstream must be computed again.
    """
    nodes = {node.name: node for node in program.graph.find_nodes(op="placeholder")}
    for spec in program.graph_signature.input_specs:
        for values in (program.state_dict, program.constants):
            if spec.target in values and _is_permuted(values[spec.target]):
                values[spec.target] = _plain(values[spec.target])
        value = nodes[spec.arg.name].meta.get("val")
        if spec.target is not None and _is_permuted(value):
            nodes[spec.arg.name].meta["val"] = _plain(value)


def _is_permuted(value: object) -> bool:
    """Whether a value is a tensor with other strides than a new one of its shape."""
    import torch

    if not isinstance(value, torch.Tensor):
        return False
    return value.stride() != torch.empty(value.shape, device="meta").stride()


def _plain(value: Tensor) -> Tensor:
    """Return a copy with the strides of a new tensor; a parameter stays one."""
    import torch

    copy = value.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(value, torch.nn.Parameter):
        return torch.nn.Parameter(copy, requires_grad=value.requires_grad)
    return copy
