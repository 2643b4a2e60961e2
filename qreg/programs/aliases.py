"""Give the state of a program the names of the model's buffers.

A tensor that a model uses as an attribute of another object than a module, as the caches of
transformers do, is a constant of its program (torch 2.13), even if it is a buffer too. The name of
a constant is a number that depends on what else the model uses, so that the methods of one model
would have other names for the same state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from qreg.programs.copying import copied

if TYPE_CHECKING:
    from torch import Tensor


def named_by_buffers(program: ExportedProgram) -> ExportedProgram:
    """Return a program that uses a buffer wherever it uses a constant that is the same tensor.

    A program without such constants is returned as it is; another one is not changed.
    """
    names = _names(program)
    if not names:
        return program
    found = copied(program)
    places = {node.name: node for node in found.graph.find_nodes(op="placeholder")}
    for constant, buffer in names.items():
        places[constant].replace_all_uses_with(places[buffer])
    found.graph_module.recompile()
    return found


def _names(program: ExportedProgram) -> dict[str, str]:
    """Map the inputs that are constants to those that are buffers with the same memory."""
    tensors = {**program.state_dict, **program.constants}
    inputs: dict[InputKind, dict[Any, str]] = {}
    for spec in program.graph_signature.input_specs:
        if spec.target in tensors:
            key = _memory(tensors[spec.target])
            inputs.setdefault(spec.kind, {})[key] = spec.arg.name
    buffers = inputs.get(InputKind.BUFFER, {})
    constants = inputs.get(InputKind.CONSTANT_TENSOR, {})
    return {name: buffers[key] for key, name in constants.items() if key in buffers}


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
