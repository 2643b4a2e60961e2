"""Export of modules: float ones to be quantized, and converted ones to be lowered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import Dim, ExportedProgram
from torch.nn.modules.module import register_module_buffer_registration_hook
from torch.utils import _pytree as pytree

from qreg.errors import ExportError, InputError
from qreg.graph.boundary import Boundary, without_boundary
from qreg.graph.forward_frames import frames_of_forward
from qreg.graph.lazy_recompile import recompiled_when_used
from qreg.graph.prepared import is_prepared
from qreg.graph.provenance import module_stack
from qreg.inputs.arrays import as_tensors, check_precision, has_arrays
from qreg.inputs.batches import BY_HAND, placed
from qreg.inputs.binding import Arguments, bound
from qreg.inputs.devices import check_devices
from qreg.inputs.example_changes import what_helps
from qreg.inputs.misfits import for_array
from qreg.inputs.signature import Signature
from qreg.inputs.specs import split
from qreg.programs.aliases import named_by_buffers
from qreg.programs.caches import has_caches, without_caches
from qreg.programs.export_errors import reason, remedy
from qreg.programs.inference import without_inference_tensors
from qreg.programs.leaf_types import unknown_type
from qreg.programs.memory_order import contiguous, in_order
from qreg.programs.models import check_model
from qreg.programs.training import check_eval

CONTAINERS = frozenset({tuple, list, dict})


def export(
    model: torch.nn.Module,
    example_inputs: tuple[Any, ...],
    dynamic_shapes: Any = None,
    keywords: dict[str, Any] | None = None,
) -> ExportedProgram:
    """Export a module in eval mode, and restore the module's mode.

    ``keywords`` are example inputs that ``forward`` takes by name.

    Gradients are disabled during export: a ``torch.no_grad()`` inside the model would otherwise
    hide its operators in a subgraph that is not annotated.

    Raises ``ExportError`` with torch's error as its cause, and for a submodule that assigns a
    tensor to its buffer, which torch.export (2.13) does not record.
    """
    model = without_inference_tensors(model)
    with _eval_mode(model), torch.no_grad(), _no_lost_assignment(model), _keeping_counters(model):
        try:
            with recompiled_when_used(), frames_of_forward():
                return torch.export.export(
                    model, example_inputs, keywords, dynamic_shapes=dynamic_shapes
                )
        except Exception as cause:  # raised by torch or by the model
            name = type(model).__name__
            raise ExportError(f"torch.export could not export {name}: {reason(cause)}") from cause


def export_again(
    model: torch.fx.GraphModule,
    sample: tuple[Any, ...],
    dynamic_shapes: Any,
    boundary: Boundary | None = None,
) -> ExportedProgram:
    """Export the module of a program, or what was made from one, at a sample in float.

    The inputs and outputs in ``boundary`` are integers in what is exported.
    """
    if boundary is not None and boundary.present:
        model, sample = without_boundary(model, boundary), boundary.taken(sample)
    args, keywords = split(model, sample)
    return export(model, args, dynamic_shapes, keywords)


@contextmanager
def _eval_mode(model: torch.nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    for module in _with_mode(model):
        module.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _with_mode(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Yield the outermost modules that have a mode: the graphs of exports have none."""
    if not isinstance(model, torch.fx.GraphModule):
        yield model
        return
    for child in model.children():
        yield from _with_mode(child)


@contextmanager
def _keeping_counters(model: torch.nn.Module) -> Iterator[None]:
    """Restore the buffers of one element when the context exits.

    torch.export (2.13) runs the writes to such a tensor if it is also an attribute that is not a
    buffer, as in the caches of transformers: the program would begin with the result.
    """
    counters = [buffer for buffer in model.buffers() if buffer.numel() == 1]
    before = [buffer.clone() for buffer in counters]
    try:
        yield
    finally:
        for buffer, value in zip(counters, before, strict=True):
            buffer.copy_(value)


@contextmanager
def _no_lost_assignment(model: torch.nn.Module) -> Iterator[None]:
    assigned: list[tuple[torch.nn.Module, str]] = []

    def note(module: torch.nn.Module, name: str, value: Any) -> None:
        if name in module._buffers and module._buffers[name] is not value:
            assigned.append((module, name))

    hook = register_module_buffer_registration_hook(note)
    try:
        yield
    finally:
        hook.remove()
    paths = {module: path for path, module in model.named_modules() if path}
    for module, name in assigned:
        if module in paths:
            raise ExportError(
                f"buffer {paths[module]}.{name}: the model assigns a new tensor to it, which "
                f"torch.export loses in a submodule (expected a write to the buffer). "
                f"Use self.{name}.copy_(...)."
            )


def exported(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any,
    dynamic_shapes: Any,
    *,
    trained: bool = False,
) -> tuple[ExportedProgram, tuple[Any, ...]]:
    """Return a model as a program, and its example inputs as positional arguments.

    The positional arguments are for the modules of the program, which take keywords in order too.
    ``trained`` accepts a program that was exported in training mode. Raises ``InputError`` for a
    model or example inputs that cannot be exported, and ``ExportError`` for what torch.export does
    not support.
    """
    check_model(model)
    check_devices(model, example_inputs)
    if isinstance(model, ExportedProgram):
        if not trained:
            check_eval(model)
        return in_order(named_by_buffers(model)), contiguous(_example_of(model, example_inputs))
    if is_prepared(model):
        raise InputError("the model has observers in it: convert it first, with qreg.convert")
    if example_inputs is None:
        raise InputError("example_inputs is missing: pass a tuple of tensors to export with")
    check_precision(model, example_inputs)
    given = contiguous(bound(model, example_inputs))
    args, keywords = as_tensors(given)
    program = named_by_buffers(_helped(model, given, dynamic_shapes))
    return in_order(program), (*args, *keywords.values())


def _helped(model: torch.nn.Module, given: Arguments, shapes: Any) -> ExportedProgram:
    """Export a module, without the caches that it returns if torch.export does not know their type.

    If that fails, the error names an unknown type, or a change that helps.
    """

    def exports(example: Arguments, shapes: Any = None) -> ExportedProgram:
        args, keywords = example
        return export(model, args, shapes, keywords)

    example = as_tensors(given)
    try:
        return exports(example, shapes)
    except ExportError as error:
        unknown = unknown_type(model, example)
        if unknown and has_caches(model):
            with without_caches(model):
                return _helped(model, given, shapes)
        change = unknown or remedy(error.__cause__, example, shapes, exports)
        change = change or what_helps(model, example, exports)
        if change is None:
            raise
        if has_arrays(given):
            change = for_array(change)
        fact = str(error)
        ended = f"{fact}\n" if "\n" in fact else f"{fact.rstrip('.')}. "
        raise ExportError(f"{ended}{change}") from error.__cause__


def _example_of(program: ExportedProgram, example_inputs: Any) -> tuple[Any, ...]:
    if example_inputs is not None:
        signature = Signature.of_program(program)
        return placed(example_inputs, signature, "example_inputs", remedy=BY_HAND)
    if program.example_inputs is None:
        raise InputError("the program was saved without example inputs: pass example_inputs")
    args, keywords = program.example_inputs
    if not keywords:
        return tuple(args)
    signature = Signature.of_program(program)
    return signature.positional(signature.leaves((args, keywords)))


def dynamic_shapes_of(program: ExportedProgram, example_inputs: tuple[Any, ...]) -> Any:
    """Return the dynamic dimensions of a program, in the form that ``export`` accepts."""
    names = set(program.graph_signature.user_inputs)
    values = [
        node.meta["val"]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in names
    ]
    shapes = [_dynamic_dimensions(value, program.range_constraints) for value in values]
    if not any(shapes):
        return None
    return pytree.tree_unflatten(shapes, _with_lists(pytree.tree_structure(example_inputs)))


def _with_lists(structure: pytree.TreeSpec) -> pytree.TreeSpec:
    """Replace registered types by lists, as torch.export (2.13) wants them in dynamic shapes."""
    if structure.is_leaf():
        return structure
    known = structure.type in CONTAINERS
    kind, context = (structure.type, structure.context) if known else (list, None)
    return pytree.TreeSpec(kind, context, list(map(_with_lists, structure.children())))


def _dynamic_dimensions(value: Any, ranges: Any) -> dict[int, Any]:
    return {
        position: _dimension(ranges.get(size.node.expr))
        for position, size in enumerate(value.shape)
        if not isinstance(size, int) and not _is_one_number(size, ranges.get(size.node.expr))
    }


def _is_one_number(size: torch.SymInt, bounds: Any) -> bool:
    """Whether a symbolic size has one value alone, as torch.export finds with ``Dim.AUTO``."""
    known: int | None = size.node.maybe_as_int()
    return known is not None or (bounds is not None and bounds.lower == bounds.upper)


def _dimension(bounds: Any) -> Any:
    if bounds is None:
        return Dim.DYNAMIC
    upper = None if bounds.upper > 2**31 else int(bounds.upper)
    return Dim.DYNAMIC(min=int(bounds.lower), max=upper)


def name_of(model: torch.nn.Module | ExportedProgram) -> str:
    """Return the name of a model for reports: its class."""
    if isinstance(model, ExportedProgram):
        return _class_of(model)
    return type(model).__name__


def _class_of(program: ExportedProgram) -> str:
    stacks = (module_stack(node) for node in program.graph.nodes)
    outermost = next((stack[0][1] for stack in stacks if stack), "a program")
    return outermost.rpartition(".")[2]
