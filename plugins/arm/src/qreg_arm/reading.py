"""Read a TOSA flatbuffer: its inputs and outputs, and the dtypes that each operator computes on.

Arm's lowering writes the origin of each operator into the flatbuffer as its location; see
``compat.OriginHook``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from qreg import LoweredOperator
from qreg.backends.program_graph import Kernel, Kind, ProgramGraph, within
from qreg.errors import InputError
from qreg.graph.provenance import origin, producer

if TYPE_CHECKING:
    from torch.fx import Graph

IDENTIFIER = slice(4, 8)
CONSTANTS = frozenset({"CONST", "CONST_SHAPE"})
QUANTIZED = frozenset({"INT8", "INT4", "INT16"})
AROUND = frozenset({"RESCALE", "TRANSPOSE", "RESHAPE"})  # inserted by Arm around other operators
OPERANDS = 2  # operands after the first two are shifts, zero points and similar
UNREADABLE = (struct.error, ValueError, IndexError, TypeError, OverflowError)


@frozen
class TosaTensor:
    """A tensor of a TOSA graph; ``dtype`` is TOSA's name of the dtype."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


@frozen
class TosaGraph:
    """A TOSA program: its inputs and outputs, and its operators in execution order."""

    inputs: tuple[TosaTensor, ...]
    outputs: tuple[TosaTensor, ...]
    graph: ProgramGraph = field(repr=False)

    def lowered(self) -> list[LoweredOperator]:
        """Return the operators that have an origin, in the form that qreg's audit accepts.

        For each origin, the kernel that computes it precedes those that only adapt tensors for it.
        """
        found = [each for each in self.graph.operators() if each.origin is not None]
        operands = (evolve(each, reads=each.reads[:OPERANDS]) for each in found)
        return sorted(operands, key=lambda each: each.operator in AROUND)


def absorbed(source: Graph, operators: Sequence[LoweredOperator]) -> Iterator[LoweredOperator]:
    """Yield operators without a kernel in the program, such as a relu fused into its producer.

    ``source`` is the graph that was lowered to the program.
    """
    parts = {str(each.origin): each for each in reversed(operators)}
    for node in source.nodes:
        name = origin(node)
        host = parts.get(origin(producer(node)) or "") if name and name not in parts else None
        if name and host:
            parts[name] = host
            yield within(host, name)


def read(program: bytes, delegate: int = 0) -> TosaGraph:
    """Read the graph of a flatbuffer; ``delegate`` is the number of its delegate.

    Raises ``InputError`` for bytes that are not a TOSA flatbuffer, or are cut short.
    """
    if program[IDENTIFIER] != b"TOSA":
        raise InputError("it is not a TOSA program: its bytes 4 to 8 are not TOSA")
    try:
        return _graph(program, delegate)
    except UNREADABLE as cause:
        raise InputError(f"it is damaged or cut short, after {len(program):,} bytes") from cause


def _graph(program: bytes, delegate: int) -> TosaGraph:
    from tosa.TosaGraph import TosaGraph as Root

    root = Root.GetRootAs(program)
    regions = [root.Regions(number) for number in range(root.RegionsLength())]
    blocks = [region.Blocks(n) for region in regions for n in range(region.BlocksLength())]
    tensors = {each.name: each for block in blocks for each in _tensors(block)}
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    kernels = list(_kernels(blocks, dtypes))
    return TosaGraph(
        inputs=tuple(tensors[name] for name in _names(blocks[0], "Inputs")),
        outputs=tuple(tensors[name] for name in _names(blocks[0], "Outputs")),
        graph=ProgramGraph(kernels, dtypes, delegate),
    )


def _tensors(block: Any) -> Iterator[TosaTensor]:
    from tosa.DType import DType

    names = {value: name for name, value in vars(DType).items() if isinstance(value, int)}
    for number in range(block.TensorsLength()):
        tensor = block.Tensors(number)
        tensor.DataAsNumpy()  # raises where a file ends within a tensor
        shape = tuple(tensor.Shape(axis) for axis in range(tensor.ShapeLength()))
        yield TosaTensor(tensor.Name().decode(), names[tensor.Type()], shape)


def _kernels(blocks: Sequence[Any], dtypes: Mapping[str, str]) -> Iterator[Kernel]:
    """Yield the operators, without constants.

    An operator computes on quantized values if none of its tensors is float, and an operand is int8
    or int16, or was computed from these in integers.
    """
    from tosa.Op import Op

    kinds = {value: name for name, value in vars(Op).items() if isinstance(value, int)}
    quantized = {name for name, dtype in dtypes.items() if dtype in QUANTIZED}
    found = [block.Operators(n) for block in blocks for n in range(block.OperatorsLength())]
    for operator in found:
        kind, origin = kinds[operator.Op()], _origin(operator)
        if kind in CONSTANTS:
            continue
        reads, gives = (_names(operator, what) for what in ("Inputs", "Outputs"))
        types = [dtypes[name] for name in (*reads[:OPERANDS], *gives) if name in dtypes]
        is_float = any(dtype.startswith(("FP", "BF")) for dtype in types)
        int8 = not is_float and not quantized.isdisjoint(reads[:OPERANDS])
        quantized.update(gives if int8 else ())
        ends = dtypes.get(reads[0], "") if reads else "", dtypes.get(gives[0], "") if gives else ""
        conversions = () if origin else _conversions(kind, *ends)
        yield Kernel(kind, (origin,) if origin else (), reads, gives, int8, conversions)


def _conversions(kind: str, read: str, given: str) -> tuple[Kind, ...]:
    """Return the conversion between float and int8 in a kernel without an origin."""
    if kind == "CAST" and read == "FP32":
        return ("quantize",)
    if kind == "CAST" and given == "FP32":
        return ("dequantize",)
    ends = QUANTIZED.intersection((read, given))
    return ("requantize",) if kind == "RESCALE" and (read == given or len(ends) > 1) else ()


def _names(table: Any, what: str) -> tuple[str, ...]:
    names, count = getattr(table, what), getattr(table, f"{what}Length")()
    return tuple(names(number).decode() for number in range(count))


def _origin(operator: Any) -> str | None:
    location = operator.Location()
    text = location.Text() if location else None
    source: str | None = json.loads(text).get("origin") if text else None
    return source
