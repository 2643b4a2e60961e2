"""Inputs and outputs that are integers: their qparams in a program, and a check of their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

from qreg.errors import LoweringError
from qreg.graph.boundary import Boundary
from qreg_xnnpack.runtime import ONLY

if TYPE_CHECKING:
    from torch.export import ExportedProgram

BYTES = frozenset({"CHAR", "BYTE"})  # as in executorch 1.4.1, ScalarType
STATIC = 0  # TensorShapeDynamism.STATIC
QUANTIZED = frozenset({"xnn_datatype_qint8", "xnn_datatype_quint8"})
INTERNAL = 2**32 - 1  # XNN_INVALID_VALUE_ID


def constant_methods(programs: Mapping[str, ExportedProgram]) -> dict[str, float | int]:
    """Return the qparams of inputs and outputs by the names of methods that return them.

    They are those of :meth:`Boundary.constants`. In a program of several methods the name of the
    method and ``_`` come first.
    """
    return dict(chain.from_iterable(_constants(*each).items() for each in programs.items()))


def _constants(method: str, program: ExportedProgram) -> dict[str, float | int]:
    prefix = "" if method == ONLY else f"{method}_"
    inputs = program.graph_signature.user_inputs
    return Boundary.of_program(program).constants([str(each) for each in inputs], prefix)


def check_quantized_io(plan: Any, graphs: Sequence[Mapping[str, Any]]) -> None:
    """Raise ``LoweringError`` if a delegate has another type or size of a tensor that it is given.

    XNNPACK reads and writes as many bytes as its own description says. The serializer of executorch
    1.4.1 describes integers whose qparams it does not find as float32, of four times the size, so
    that XNNPACK would write past the end of the tensor.
    """
    for instruction in (each.instr_args for part in plan.chains for each in part.instructions):
        if hasattr(instruction, "delegate_index"):
            given = [plan.values[place].val for place in instruction.args]
            for name, value in _externals(graphs[instruction.delegate_index]).items():
                _check(given[name], value)


def _externals(graph: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    unions = [each["xvalue_union"] for each in graph["xvalues"]]
    values = [each.get("tensor_value", each) for each in unions]
    return {each["external_id"]: each for each in values if each["external_id"] != INTERNAL}


def _check(tensor: Any, value: Mapping[str, Any]) -> None:
    kind, datatype = tensor.scalar_type.name, value["datatype"]
    if kind not in BYTES and datatype not in QUANTIZED:
        return
    alike = kind in BYTES and datatype in QUANTIZED
    fits = tensor.shape_dynamism != STATIC or prod(tensor.sizes) == prod(value["dims"])
    if not alike or not fits:
        raise LoweringError(
            f"a tensor of {kind} {list(tensor.sizes)} is {datatype} {list(value['dims'])} in the "
            "delegate, which would read or write past its end (expected equal sizes). Leave the "
            "input or output in float: omit it in io."
        )
