"""Reduce a program to tensors: what every runtime can take and return."""

from __future__ import annotations

from dataclasses import replace

from torch.export import ExportedProgram, ExportGraphSignature
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from qreg.inputs.signature import flat_structure


def tensors_only(program: ExportedProgram) -> ExportedProgram:
    """Return a program that takes its tensors one by one, and returns a tuple of its tensors.

    Keywords, nested inputs, types of outputs, and outputs other than tensors belong to the model:
    most formats of programs do not have them. :func:`qreg.verification.runner.structured` restores
    them. A program without them is returned as it is; the graph of another one is changed.
    """
    entry, *others = program.module_call_graph
    plain = entry.signature
    if plain is None or _is_plain(program, plain):
        return program
    signature = program.graph_signature
    kept = [
        (spec, value)
        for spec, value in zip(signature.output_specs, _outputs(program), strict=True)
        if spec.kind is not OutputKind.USER_OUTPUT or isinstance(spec.arg, TensorArgument)
    ]
    program.graph.output_node().args = (tuple(value for _, value in kept),)
    returned = sum(spec.kind is OutputKind.USER_OUTPUT for spec, _ in kept)
    names = [str(name) for name in signature.user_inputs]
    call = replace(
        plain,
        in_spec=flat_structure(len(names)),
        out_spec=pytree.tree_structure((0,) * returned),
        forward_arg_names=names,
    )
    example = program.example_inputs
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=ExportGraphSignature(signature.input_specs, [spec for spec, _ in kept]),
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=[ModuleCallEntry(entry.fqn, call), *others],
        example_inputs=(tuple(pytree.tree_leaves(example)), {}) if example else None,
        constants=program.constants,
        verifiers=program.verifiers,
    )


def _is_plain(program: ExportedProgram, signature: ModuleCallSignature) -> bool:
    """Whether the inputs are flat and positional, and the output is a tensor or a tuple of them."""
    specs = program.graph_signature.output_specs
    tensors = all(isinstance(spec.arg, TensorArgument) for spec in specs)
    out_spec, count = signature.out_spec, len(program.graph_signature.user_inputs)
    flat = out_spec.type is tuple and all(each.is_leaf() for each in out_spec.children())
    return signature.in_spec == flat_structure(count) and tensors and (flat or out_spec.is_leaf())


def _outputs(program: ExportedProgram) -> tuple[object, ...]:
    (values,) = program.graph.output_node().args
    assert isinstance(values, (tuple, list))
    return tuple(values)
