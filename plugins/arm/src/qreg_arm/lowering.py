"""Lower a program to TOSA or Ethos-U with executorch, and report how each operator was lowered.

A TOSA program is one flatbuffer with the inputs and outputs of the model. An operator that TOSA
does not support is therefore an error. In an Ethos-U program, ExecuTorch's kernels compute what the
NPU does not.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qreg import Conversion, Lowered, LoweredOperator
from qreg.backends.exported import changed_inputs, float_conversions, float_operators, name_of
from qreg.backends.patching import quiet
from qreg.backends.unsupported import naming_unsupported
from qreg.graph.boundary import Boundary
from qreg_arm.compat import delegates_of, traced_and_exact, without_kernel
from qreg_arm.reading import absorbed, read
from qreg_arm.repairs import spell_out_float, spell_out_strides
from qreg_arm.whole import left_outside, one_flatbuffer

if TYPE_CHECKING:
    from executorch.exir import EdgeProgramManager
    from torch.export import ExportedProgram


def lower_to_tosa(program: ExportedProgram, spec: Any) -> Lowered:
    """Lower a program to one TOSA flatbuffer.

    Raises ``LoweringError`` for a program that does not fit into one flatbuffer.
    """
    from executorch.backends.arm.tosa.partitioner import TOSAPartitioner

    edge, _ = _to_edge(program, spec, TOSAPartitioner)
    source = edge.exported_program()
    written = one_flatbuffer(source)
    operators, conversions = _read([written], delegates_of(source))
    return Lowered(
        program=written,
        delegates=1,
        changed_inputs=changed_inputs(source),
        operators=operators,
        conversions=conversions,
    )


def lower_to_ethos_u(program: ExportedProgram, spec: Any) -> Lowered:
    """Lower a program to a ``.pte`` that contains the code vela compiled for the NPU."""
    import executorch.kernels.quantized  # noqa: F401  # the out variants of quantize and dequantize
    from executorch.backends.arm.ethosu import EthosUPartitioner

    constants = Boundary.of_program(program).constants(program.graph_signature.user_inputs)
    edge, flatbuffers = _to_edge(program, spec, EthosUPartitioner, constants)
    source = edge.exported_program()
    delegates = delegates_of(source)
    operators, conversions = _read([flatbuffers[_tag(each)] for each in delegates], delegates)
    outside = left_outside(source)
    with _quiet(), naming_unsupported("ExecuTorch has no kernel", [program], without_kernel):
        written = bytes(edge.to_executorch().buffer)
    return Lowered(
        program=written,
        delegates=len(delegates),
        outside=[name_of(node) for node in outside],
        changed_inputs=changed_inputs(source),
        operators=[*operators, *float_operators(outside)],
        conversions=[*conversions, *float_conversions(outside)],
    )


def _to_edge(
    program: ExportedProgram,
    spec: Any,
    partitioner: Any,
    constants: Mapping[str, float | int] | None = None,
) -> tuple[EdgeProgramManager, dict[str, bytes]]:
    """Return the program with Arm's delegates, and the TOSA flatbuffer of each delegate by tag.

    ``constants`` are what further methods of the program return, by their names.
    """
    from executorch.exir import to_edge_transform_and_lower

    spell_out_strides(program)
    spell_out_float(program)
    with tempfile.TemporaryDirectory(prefix="qreg-arm-") as name:
        spec.dump_intermediate_artifacts_to(name).dump_debug_info(spec.DebugMode.TOSA)
        named = naming_unsupported("ExecuTorch has no kernel", [program], without_kernel)
        with _quiet(), named, traced_and_exact():
            edge = to_edge_transform_and_lower(
                program, partitioner=[partitioner(spec)], constant_methods=constants
            )
        files = {path.name: path.read_bytes() for path in Path(name).glob("output_*.tosa")}
    return edge, {name.split("_")[1]: content for name, content in files.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the report of vela 5.1, and the logs and deprecations of executorch 1.4.1."""
    deprecations = (FutureWarning, DeprecationWarning)
    with quiet("executorch", categories=deprecations), redirect_stdout(io.StringIO()):
        yield


def _tag(delegate: Any) -> str:
    nodes = delegate.original_module.graph.nodes
    return str(next(n.meta["delegation_tag"] for n in nodes if "delegation_tag" in n.meta))


def _read(
    flatbuffers: Sequence[bytes], delegates: Sequence[Any]
) -> tuple[list[LoweredOperator], list[Conversion]]:
    operators: list[LoweredOperator] = []
    conversions: list[Conversion] = []
    for number, (flatbuffer, delegate) in enumerate(zip(flatbuffers, delegates, strict=True)):
        read_back = read(flatbuffer, number)
        found = read_back.lowered()
        operators += [*found, *absorbed(delegate.original_module.graph, found)]
        conversions += read_back.graph.conversions()
    return operators, conversions
