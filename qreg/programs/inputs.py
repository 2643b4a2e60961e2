"""The inputs of a model, and checks that a batch fits them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree

from qreg.errors import CalibrationError, InputError
from qreg.programs.devices import device_problem
from qreg.utils.misfits import dtype_remedy, shape_remedy
from qreg.utils.shapes import fits, spelled

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph


BATCH = "calibration batch"


@frozen
class InputSpec:
    """One flat input: its name, its shape with None for a dynamic dimension, and its dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype

    def misfit(self, value: object) -> str | None:
        """Return why ``value`` cannot be this input, or None if it can."""
        if not isinstance(value, torch.Tensor):
            return f"is a {type(value).__name__} (expected a tensor). Convert it to a tensor."
        if problem := device_problem(value):
            return problem
        if value.dtype != self.dtype:
            given, wanted = str(value.dtype), str(self.dtype)
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


def cloned(batch: Any) -> tuple[Any, ...]:
    """Return a batch as arguments with cloned tensors, for a model that may change its inputs."""
    copies: tuple[Any, ...] = pytree.tree_map_only(torch.Tensor, torch.clone, arguments(batch))
    return copies


def check_batch(number: int, batch: Any, specs: Sequence[InputSpec], what: str = BATCH) -> None:
    """Raise ``CalibrationError`` with the input and the reason if a batch does not fit."""
    values = flat(batch)
    if len(values) != len(specs):
        expected = ", ".join(spec.name for spec in specs)
        problem = f"has {len(values)} inputs (expected {len(specs)}: {expected})"
        if len(values) > len(specs):
            problem += ". Remove values that are not inputs, such as labels"
        raise CalibrationError(problem, number, what=what)
    for spec, value in zip(specs, values, strict=True):
        misfit = spec.misfit(value)
        if misfit:
            raise CalibrationError(misfit, number, spec.name, what=what)


def checked(
    batches: Iterable[Any], specs: Sequence[InputSpec], what: str = BATCH
) -> Iterable[tuple[Any, ...]]:
    """Return the batches as arguments of the model, each checked before it is given on.

    A batch is a tuple or list of inputs, a dict of them by name, or a lone tensor. ``what`` is what
    errors call it.
    """
    for number, batch in enumerate(batches):
        given = _by_name(number, batch, specs, what) if isinstance(batch, dict) else batch
        check_batch(number, given, specs, what)
        yield arguments(given)


def _by_name(
    number: int, batch: dict[str, Any], specs: Sequence[InputSpec], what: str
) -> tuple[Any, ...]:
    names = [spec.name for spec in specs]
    if set(batch) != set(names):
        problem = f"has the inputs {', '.join(batch)} (expected {', '.join(names)})"
        raise CalibrationError(problem, number, what=what)
    return tuple(batch[name] for name in names)


def capped(batches: Iterable[Any], most: int | None) -> Iterable[Any]:
    """Return the first ``most`` batches, or all; no further batch is read.

    Raises ``InputError`` if ``most`` is less than 1.
    """
    if most is None:
        return batches
    if not isinstance(most, int):
        raise InputError(
            f"max_batches: {most!r} is not an integer (expected a number of batches). "
            "Omit it to use all batches."
        )
    if most < 1:
        raise InputError(f"max_batches is {most}: it must be at least 1")
    return islice(batches, most)


def length(batches: Iterable[Any], most: int | None) -> int | None:
    """Return the number of batches in ``capped``, or None if it is not known without reading."""
    known = [each for each in (length_hint(batches, -1), most) if each is not None and each >= 0]
    return min(known, default=None)
