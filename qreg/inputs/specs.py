"""The flat inputs of a model, and checks that a value fits one."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree

from qreg.errors import InputError
from qreg.graph.compat import signature_of
from qreg.inputs.arrays import as_tensor, is_array
from qreg.inputs.devices import device_problem
from qreg.inputs.misfits import dtype_remedy, for_array, shape_remedy
from qreg.utils.shapes import fits, spelled
from qreg.utils.wording import a_type

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph


@frozen
class InputSpec:
    """One flat input: its name, its shape with None for a dynamic dimension, and its dtype.

    ``quantized`` states that the program takes integers where its model takes floats.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype
    quantized: bool = False

    def misfit(self, value: object) -> str | None:
        """Return why ``value``, a tensor or a numpy array, cannot be this input, or None."""
        if not is_array(value):
            return self._misfit(value)
        tensor = as_tensor(value)
        if isinstance(tensor, torch.Tensor):
            problem = self._misfit(tensor)
            return problem and for_array(problem)
        dtype = str(self.dtype).removeprefix("torch.")
        return f"is an array of dtype {tensor.dtype} (expected {dtype}). Convert its values."

    def _misfit(self, value: object) -> str | None:
        if not isinstance(value, torch.Tensor):
            return f"is {a_type(value)} (expected a tensor). Convert it to a tensor."
        if problem := device_problem(value):
            return problem
        if value.dtype != self.dtype:
            given, wanted = str(value.dtype), str(self.dtype)
            if self.quantized:
                return (
                    f"has dtype {given} (expected {wanted}, as io asked for). Quantize it with the "
                    "qparams of this input in the signature: info.qparams.quantized(tensor)."
                )
            return (
                f"has dtype {given}, the model was exported with {wanted}. "
                f"{dtype_remedy(given, wanted)}"
            )
        if value.is_floating_point() and value.isnan().any():
            return "holds NaN. Leave the batch out, or clean its data."
        if not fits(value.shape, self.shape):
            return (
                f"has shape {tuple(value.shape)}, the model was exported with "
                f"{spelled(self.shape)}. {shape_remedy(value.shape, self.shape)}"
            )
        return None


def input_specs(program: ExportedProgram) -> list[InputSpec]:
    """Return the flat tensor inputs of a program, in order."""
    for given in program.graph_signature.input_specs:
        if given.kind is InputKind.USER_INPUT and isinstance(given.arg, ConstantArgument):
            _input_spec(given.arg.name, given.arg.value)
    return graph_input_specs(program.graph, set(program.graph_signature.user_inputs))


def graph_input_specs(graph: Graph, names: Container[str] | None = None) -> list[InputSpec]:
    """Return the inputs of a graph, in order; if ``names`` is given, only those."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    wanted = [node for node in inputs if names is None or node.name in names]
    return [_input_spec(node.name, node.meta["val"]) for node in wanted]


def _input_spec(name: str, value: Any) -> InputSpec:
    if not isinstance(value, torch.Tensor):
        raise InputError(
            f"input {name!r} of the model is {value!r}: programs support tensors only. "
            "Wrap the model in a module that sets this argument."
        )
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return InputSpec(name, shape, value.dtype)


def arguments(batch: Any) -> tuple[Any, ...]:
    """Return a batch as the positional arguments of the model; a lone tensor is the only one."""
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def flat(batch: Any) -> list[Any]:
    """Return the tensors of a batch in the order of the program's inputs."""
    return pytree.tree_leaves(arguments(batch))


def keywords(model: object) -> list[str]:
    """Return the names of the arguments that an exported module takes by name only."""
    info = signature_of(model)
    return [] if info is None else list(info.in_spec.child(1).context)


def split(model: object, sample: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of an exported module as positional ones and keywords.

    A sample has all of them in order, which the graph takes, but not the module.
    """
    names = keywords(model)
    count = len(sample) - len(names)
    return sample[:count], dict(zip(names, sample[count:], strict=True))


def called(model: Callable[..., Any], sample: tuple[Any, ...]) -> Any:
    """Return what a model returns for a sample, which it may change."""
    args, named = split(model, sample)
    return model(*args, **named)


def cloned(batch: Any) -> tuple[Any, ...]:
    """Return a batch as arguments with cloned tensors, for a model that may change its inputs."""
    copies: tuple[Any, ...] = pytree.tree_map_only(torch.Tensor, torch.clone, arguments(batch))
    return copies
