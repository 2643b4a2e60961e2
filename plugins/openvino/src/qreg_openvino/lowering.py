"""Lower a program to OpenVINO IR, and report how the CPU plugin compiles it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qreg import Lowered
from qreg.backends.exported import changed_inputs
from qreg.graph.boundary import Boundary
from qreg.graph.decompositions import into_products
from qreg_openvino.checks import check_lowerable
from qreg_openvino.container import GRAPH, WEIGHTS, join
from qreg_openvino.converting import convert
from qreg_openvino.fusions import keep_apart_from_activations, keep_reductions_apart
from qreg_openvino.named_weights import named_weights
from qreg_openvino.passes import copies, oversized_averages_as_means, pad_ahead_of_averages, scaled
from qreg_openvino.permutations import drop_undone_permutations
from qreg_openvino.products_of_activations import keep_from_products
from qreg_openvino.quantized_io import describe_quantized_io, spell_out_quantized_io
from qreg_openvino.reading import Compiled
from qreg_openvino.runtime import compiled_model
from qreg_openvino.upstream import move_quantizations_upstream
from qreg_openvino.zeros import multiply_zeros

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def lower(program: ExportedProgram) -> Lowered:
    """Lower a program to OpenVINO IR.

    Raises ``LoweringError`` for what OpenVINO does not support: activations that are quantized
    dynamically, and operators that its frontend does not convert.
    """
    functional = program.run_decompositions(into_products())
    check_lowerable(functional)
    oversized_averages_as_means(functional)
    pad_ahead_of_averages(functional)
    keep_apart_from_activations(functional)
    keep_reductions_apart(functional)
    drop_undone_permutations(functional)
    move_quantizations_upstream(functional)
    keep_from_products(functional)
    multiply_zeros(functional)
    boundary = Boundary.of_program(functional)
    spell_out_quantized_io(functional)
    model = convert(functional)
    describe_quantized_io(model, boundary)
    written = serialized(model)
    compiled = Compiled.of(compiled_model(written).get_runtime_model(), named_weights(model))
    return Lowered(
        program=written,
        delegates=1,
        changed_inputs=changed_inputs(functional),
        operators=tuple(compiled.operators(copies(functional), scaled(functional))),
        conversions=tuple(compiled.graph.conversions()),
    )


def serialized(model: Any) -> bytes:
    """Serialize a model to the bytes of a program, through files: OpenVINO writes files only."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{GRAPH}"
        openvino.save_model(model, path, compress_to_fp16=False)
        return join({each: path.with_suffix(each).read_bytes() for each in (GRAPH, WEIGHTS)})
