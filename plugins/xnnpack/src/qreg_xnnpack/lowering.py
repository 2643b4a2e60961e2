"""Lower a program to a ``.pte`` with the XNNPACK delegate, and report how each operator runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from qreg import Lowered
from qreg.backends.exported import changed_inputs, float_conversions
from qreg.backends.memory import return_freed
from qreg.backends.patching import quiet
from qreg.backends.unsupported import naming_unsupported, unsupported_in
from qreg_xnnpack.callers import callers_known
from qreg_xnnpack.clamps import one_clamp_in_a_row
from qreg_xnnpack.compat import (
    in_graphs,
    release_payloads,
    without_attention_patterns,
    without_bilinear_patterns,
    without_kernel,
    without_registered_kernel,
)
from qreg_xnnpack.copies import without_copies
from qreg_xnnpack.embeddings import operators_outside
from qreg_xnnpack.held_once import forgetting_delegates, weights_shared
from qreg_xnnpack.in_place import can_write_in_place
from qreg_xnnpack.known_inputs import inputs_known
from qreg_xnnpack.layouts import layouts_put_right
from qreg_xnnpack.merging import merged_by_bits
from qreg_xnnpack.neighbours import float_beside_int8, taken_for_int8
from qreg_xnnpack.partitions import without_cycles
from qreg_xnnpack.passes import ready
from qreg_xnnpack.quantized_io import constant_methods
from qreg_xnnpack.reading import delegate_graphs, outside_nodes
from qreg_xnnpack.recomputing import computed_once, decomposed_once
from qreg_xnnpack.retracing import checked_once, traced_once
from qreg_xnnpack.runtime import ONLY
from qreg_xnnpack.tables import activations_by_table

if TYPE_CHECKING:
    from executorch.exir import EdgeProgramManager, ExecutorchBackendConfig
    from executorch.exir.schema import Program
    from torch.export import ExportedProgram

# What a lowering does once, and executorch again and again. The program is the same without these.
SHORTCUTS = (
    *(traced_once, checked_once, computed_once, decomposed_once),
    *(merged_by_bits, weights_shared, callers_known, inputs_known),
)
# What a lowering changes of executorch, or does without.
PATCHES = (
    layouts_put_right,
    float_beside_int8,
    without_bilinear_patterns,
    without_attention_patterns,
    activations_by_table,
    without_cycles,
    *SHORTCUTS,
)
NO_KERNEL = "ExecuTorch has no kernel"
NO_OPERATORS = ("executorch_call_delegate", "getitem")
# Warnings of executorch 1.4.1: it copies pytree specs that torch 2.13 has deprecated, thousands of
# times, and does not know that _with_state initializes buffers.
NOISE = "Mutation on a buffer|.*LeafSpec"


def lower(program: ExportedProgram | Mapping[str, ExportedProgram]) -> Lowered:
    """Lower a program; operators that are not delegated run in ExecuTorch's portable kernels.

    A dict of programs by name becomes a program with several methods.

    Raises ``UnsupportedOperatorError`` for operators that have no such kernel.
    """
    programs = program if isinstance(program, Mapping) else {ONLY: program}
    unsupported = naming_unsupported(NO_KERNEL, programs.values(), without_kernel)
    with unsupported, forgetting_delegates(), TemporaryFile(prefix="qreg-") as file:
        edge = to_edge(programs)
        sources = {name: edge.exported_program(name) for name in programs}
        calls = {name: _calls(source) for name, source in sources.items()}
        with quiet(message=NOISE):
            settings = _with_state(list(sources.values()))
            made = edge.to_executorch(settings)
            _check_kernels(made.executorch_program, programs)
            made.write_to_file(file)
            del made
        del edge
        for source in sources.values():
            release_payloads(source)
        return_freed()
        file.seek(0)
        written = file.read()
    methods = {name: _read(written, name, sources[name], calls[name]) for name in programs}
    return methods[ONLY] if program is programs.get(ONLY) else Lowered.of_methods(methods)


def _check_kernels(made: Program, programs: Mapping[str, ExportedProgram]) -> None:
    """Raise ``UnsupportedOperatorError`` for operators of torch that ExecuTorch has no kernel for.

    Others may have kernels that an application links.
    """
    missing = [each for each in without_registered_kernel(made) if each.startswith("aten::")]
    if missing:
        raise unsupported_in(NO_KERNEL, programs.values(), list(map(in_graphs, missing)))


def _calls(source: ExportedProgram) -> list[str]:
    return [node.target.__name__ for node in source.graph.nodes if node.op == "call_function"]


def _read(written: bytes, method: str, source: ExportedProgram, calls: Iterable[str]) -> Lowered:
    """Return a method of a program; ``calls`` are the operators of its source before emission."""
    delegates = delegate_graphs(written, source, method)
    inside = [operator for each in delegates for operator in each.operators()]
    outside = outside_nodes(source, {each.origin for each in inside})
    return Lowered(
        program=written,
        delegates=len(delegates),
        outside=[call for call in calls if call not in NO_OPERATORS],
        changed_inputs=changed_inputs(source),
        operators=(*inside, *operators_outside(outside)),
        conversions=(
            *(conversion for each in delegates for conversion in each.graph.conversions()),
            *float_conversions(source.graph.nodes),
        ),
    )


def to_edge(
    programs: Mapping[str, ExportedProgram], *, per_operator: bool = False
) -> EdgeProgramManager:
    """Return programs with delegates; ``per_operator`` creates a delegate for each operator."""
    # Registers the out variants of quantize and dequantize, which programs require for those that
    # are not delegated.
    import executorch.kernels.quantized  # noqa: F401
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    passes = [without_copies, one_clamp_in_a_row, taken_for_int8]
    with quiet(message=NOISE), ExitStack() as stack:
        for patch in PATCHES:
            stack.enter_context(patch())
        partitioner = XnnpackPartitioner(per_op_mode=per_operator)
        return to_edge_transform_and_lower(
            {name: ready(each) for name, each in programs.items()},
            transform_passes=passes,
            partitioner=[partitioner],
            constant_methods=constant_methods(programs),
        )


def _with_state(sources: Sequence[ExportedProgram]) -> ExecutorchBackendConfig:
    """Return the settings that initialize mutable buffers with their values in the model.

    executorch leaves mutable buffers uninitialized unless they are named: a counter would start at
    an arbitrary value. Writes at positions, such as those to a cache of keys, are done in place
    where the runtime can. Buffers of one name are one memory in all methods, which share it.
    """
    from executorch.exir import ExecutorchBackendConfig
    from executorch.exir.passes import MemoryPlanningPass
    from executorch.exir.passes.init_mutable_pass import InitializedMutableBufferPass

    names = [name for source in sources for name in _written(source)]
    return ExecutorchBackendConfig(
        passes=[InitializedMutableBufferPass(names)] if names else [],
        run_reinplace_pass=bool(names) and can_write_in_place(sources),
        memory_planning_pass=MemoryPlanningPass(share_mutable_buffers=len(sources) > 1),
    )


def _written(source: ExportedProgram) -> list[str]:
    """Return the names of the inputs that are buffers which the program writes to."""
    signature = source.graph_signature
    written = set(signature.buffers_to_mutate.values())
    return [name for name, buffer in signature.inputs_to_buffers.items() if buffer in written]
