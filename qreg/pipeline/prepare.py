"""Prepare an exported program: fold it, and insert observers with torchao."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import Quantizer

from qreg.folding.fold import folded
from qreg.graph.compat import forget_models, restore_annotation
from qreg.graph.lazy_recompile import recompiled_when_used
from qreg.graph.prepared import float_graph
from qreg.graph.qat_patterns import fusing_present_convolutions
from qreg.programs.copying import module_of
from qreg.programs.export import dynamic_shapes_of, export_again, exported
from qreg.programs.stateless import check_state
from qreg.quantizer.registry_quantizer import RegistryQuantizer, get_quantizer
from qreg.verification.agreement import check_agreement

QUANTIZED = ("quantized_decomposed.", "torchao.")  # operators of converted models


def prepare(
    model: torch.nn.Module | ExportedProgram,
    quantizer: Quantizer | str,
    example_inputs: Any = None,
    *,
    dynamic_shapes: Any = None,
) -> GraphModule:
    """Insert observers into a model, or fake quantizers where the config is for training.

    Replaces ``prepare_pt2e(program.module(), quantizer)``, whose folding of batch norms is wrong
    where other operators read the output of a convolution or share its weight. This function folds
    constants and batch norms first, for each call separately, and compares the result with the
    float model. For a config of mode ``"qat"`` nothing is folded and ``prepare_qat_pt2e`` is used.

    Args:
        model: an ``ExportedProgram``, or a module to export.
        quantizer: what :func:`get_quantizer` returned, any other torchao Quantizer, or the name of
            a backend, for its default config.
        example_inputs: the inputs to export with, in the forms of :func:`qreg.quantize`; a program
            has those that it was exported with. The model is run on them once.
        dynamic_shapes: as for ``torch.export.export``, for a module.

    Returns:
        The prepared graph, for :func:`calibrate` and :func:`convert`. The tensors of ``model`` are
        not modified.

    Raises:
        PreparationError: a transform of the backend changes what the model computes; the error
            names the operator.
        InputError: no example inputs, or ones that do not match; or the model is a program that
            was exported in training mode, and the config is not for training.
        StateError: the model writes to a buffer, and the backend's programs do not keep state.
        NothingQuantizedError: no operator would be quantized.
    """
    if isinstance(quantizer, str):
        quantizer = get_quantizer(quantizer)
    program, example = exported(
        model, example_inputs, dynamic_shapes, trained=_is_trained(quantizer)
    )
    return prepare_checked(program, quantizer, example)


def prepare_checked(
    program: ExportedProgram, quantizer: Quantizer, example: tuple[Any, ...]
) -> GraphModule:
    """Return a program with observers, after comparing it with the float model on an example.

    Raises as :func:`prepare`.
    """
    prepared = prepare_program(program, quantizer)
    if not _is_trained(quantizer):
        check_agreement(module_of(program), float_graph(prepared), example)
    return prepared


def prepare_program(program: ExportedProgram, quantizer: Quantizer) -> GraphModule:
    """Return a program with observers, without comparing it with the float model.

    Raises ``StateError`` for a program with state if the backend's programs do not keep state.
    """
    if isinstance(quantizer, RegistryQuantizer):
        check_state(quantizer.registry.backend(quantizer.backend).value, program)
    with recompiled_when_used():
        model = module_of(program)
        if _is_trained(quantizer):
            with fusing_present_convolutions():
                prepared: GraphModule = prepare_qat_pt2e(model, quantizer)
        else:
            prepared = prepare_pt2e(folded(model), quantizer)
    forget_models()
    prepared.recompile()
    return prepared


def prepare_again(model: GraphModule, quantizer: RegistryQuantizer) -> GraphModule:
    """Return a float graph that was prepared before, with new observers.

    ``model`` is a copy of what :func:`float_graph` returned, with changes, and may be modified.
    """
    for each in model.modules():  # the model, and bodies of loops in it
        for node in each.graph.nodes if isinstance(each, GraphModule) else ():
            restore_annotation(node, None)
    with recompiled_when_used():
        prepared: GraphModule = prepare_pt2e(folded(model), quantizer)
    forget_models()
    prepared.recompile()
    return prepared


def folded_program(program: ExportedProgram, example: tuple[Any, ...]) -> ExportedProgram:
    """Return a float program with constants and batch norms folded, or the same if it has none.

    A converted program is returned unchanged, since its constants are quantized.
    """
    if any(str(node.target).startswith(QUANTIZED) for node in program.graph.nodes):
        return program
    model = module_of(program)
    before = _operators(model)
    if _operators(folded(model)) == before:
        return program
    return export_again(model, example, dynamic_shapes_of(program, example))


def _operators(model: GraphModule) -> list[Any]:
    return [node.target for node in model.graph.nodes if node.op == "call_function"]


def _is_trained(quantizer: Quantizer) -> bool:
    return isinstance(quantizer, RegistryQuantizer) and "qat" in quantizer.modes
