"""Lower a program to an ONNX model with quantizations, and report how the runtime optimizes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg import Lowered
from qreg.graph.boundary import Boundary
from qreg_onnxruntime.checks import check_lowerable
from qreg_onnxruntime.exporting import export
from qreg_onnxruntime.global_pools import with_global_pools
from qreg_onnxruntime.kept_float import with_kept_float
from qreg_onnxruntime.packed_weights import with_packed_weights
from qreg_onnxruntime.passes import ready
from qreg_onnxruntime.quantized_io import describe_quantized_io
from qreg_onnxruntime.reading import Optimized
from qreg_onnxruntime.separate_ranges import with_separate_ranges

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def lower(program: ExportedProgram, opset: int = 21) -> Lowered:
    """Lower a program to an ONNX model.

    Raises ``LoweringError`` for what ONNX cannot represent: a narrow range, an input that is
    mutated in place, or an operator that torch.onnx does not translate.
    """
    import onnx

    functional = program.run_decompositions({})
    check_lowerable(functional)
    absorbed = ready(functional)
    model = with_packed_weights(export(functional, opset))
    model = with_separate_ranges(with_kept_float(with_global_pools(model)))
    describe_quantized_io(model, Boundary.of_program(functional))
    onnx.checker.check_model(model, full_check=True)
    written: bytes = model.SerializeToString()
    optimized = Optimized.of(model.graph, written, absorbed)
    return Lowered(
        program=written,
        delegates=1,
        operators=tuple(optimized.operators()),
        conversions=tuple(optimized.graph.conversions()),
    )
