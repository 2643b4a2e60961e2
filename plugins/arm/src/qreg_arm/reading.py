"""Reads a TOSA flatbuffer back: what it takes and gives, and on which types each operator computes.

Arm's lowering writes the origin of each operator into the flatbuffer as its location; see
``compat.OriginHook``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen

from qreg import Conversion, LoweredOperator
from qreg.errors import InputError
from qreg.graph.provenance import origin, producer

if TYPE_CHECKING:
    from torch.fx import Graph

IDENTIFIER = slice(4, 8)
CONSTANTS = frozenset({"CONST", "CONST_SHAPE"})
QUANTIZED = frozenset({"INT8", "INT4"})
AROUND = frozenset({"RESCALE", "TRANSPOSE", "RESHAPE"})  # what Arm puts around other operators
OPERANDS = 2  # what follows the first two are shifts, zero points and the like
UNREADABLE = (struct.error, ValueError, IndexError, TypeError, OverflowError)


@frozen
class TosaTensor:
    """A tensor of a TOSA graph; ``dtype`` is the name that TOSA has for it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


@frozen
class TosaOperator:
    """An operator by the names of the tensors that it reads and gives."""

    kind: str
    origin: str | None
    reads: tuple[str, ...]
    gives: tuple[str, ...]


@frozen
class TosaGraph:
    """A TOSA program; ``operators`` are in the order in which they run, without constants."""

    inputs: tuple[TosaTensor, ...]
    outputs: tuple[TosaTensor, ...]
    operators: tuple[TosaOperator, ...] = field(repr=False)
    dtypes: Mapping[str, str] = field(repr=False)

    def lowered(self, delegate: int) -> list[LoweredOperator]:
        """The operators as qreg's audit takes them, without those that no operator asked for.

        What gives an operator its name goes before what only fits tensors to it.
        """
        return sorted(self._lowered(delegate), key=lambda each: each.operator in AROUND)

    def _lowered(self, delegate: int) -> Iterator[LoweredOperator]:
        """An operator computes on quantized values if there is no float among its tensors, and
        int8, or what was made of int8 in integers, among its operands.
        """
        quantized = {name for name, dtype in self.dtypes.items() if dtype in QUANTIZED}
        for each in self.operators:
            reads, gives = self._types(each.reads), self._types(each.gives)
            is_float = any(dtype.startswith(("FP", "BF")) for dtype in (*reads, *gives))
            int8 = not is_float and not quantized.isdisjoint(each.reads[:OPERANDS])
            quantized.update(each.gives if int8 else ())
            if each.origin is not None:
                yield LoweredOperator(each.origin, each.kind, int8, delegate, reads, gives)

    def conversions(self, delegate: int) -> Iterator[Conversion]:
        """The changes between float and int8 that no operator of the model asks for."""
        for each in self.operators:
            kind = self._conversion(each) if each.origin is None else None
            if kind is not None:
                behind, before = self._origins(each, _givers), self._origins(each, _readers)
                yield Conversion(kind, delegate, behind, before)

    def _types(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self.dtypes[name] for name in names[:OPERANDS] if name in self.dtypes)

    def _conversion(
        self, operator: TosaOperator
    ) -> Literal["quantize", "dequantize", "requantize"] | None:
        before, behind = (self._types(names)[:1] for names in (operator.reads, operator.gives))
        if operator.kind == "CAST" and before == ("FP32",):
            return "quantize"
        if operator.kind == "CAST" and behind == ("FP32",):
            return "dequantize"
        return "requantize" if operator.kind == "RESCALE" and before == behind else None

    def _origins(self, operator: TosaOperator, neighbours: Neighbours) -> tuple[str, ...]:
        """The nearest operators of the model on one side."""
        found, reached = dict[str, None](), [operator]
        while reached:
            for other in neighbours(self.operators, reached.pop()):
                if other.origin is None:
                    reached.append(other)
                else:
                    found[other.origin] = None
        return tuple(found)


Neighbours = Callable[[tuple[TosaOperator, ...], TosaOperator], "list[TosaOperator]"]


def _givers(operators: tuple[TosaOperator, ...], reader: TosaOperator) -> list[TosaOperator]:
    return [each for each in operators if not set(each.gives).isdisjoint(reader.reads)]


def _readers(operators: tuple[TosaOperator, ...], giver: TosaOperator) -> list[TosaOperator]:
    return [each for each in operators if not set(each.reads).isdisjoint(giver.gives)]


def absorbed(
    source: Graph, operators: Sequence[LoweredOperator], delegate: int
) -> Iterator[LoweredOperator]:
    """Operators without any in the program, as a relu is fused into the operator before it.

    ``source`` is the graph that the program was made of.
    """
    parts = {str(each.origin): each for each in reversed(operators)}
    for node in source.nodes:
        name = origin(node)
        host = parts.get(origin(producer(node)) or "") if name and name not in parts else None
        if name and host:
            parts[name] = host
            yield LoweredOperator(name, f"within {host.operator}", host.int8, delegate)


def read(program: bytes) -> TosaGraph:
    """The graph of a flatbuffer.

    Raises ``InputError`` for what is no TOSA flatbuffer, or is cut short.
    """
    if program[IDENTIFIER] != b"TOSA":
        raise InputError("it is no TOSA program: its bytes 4 to 8 are not TOSA")
    try:
        return _graph(program)
    except UNREADABLE as cause:
        raise InputError(f"it is damaged or cut short, after {len(program):,} bytes") from cause


def _graph(program: bytes) -> TosaGraph:
    from tosa.TosaGraph import TosaGraph as Root

    root = Root.GetRootAs(program)
    regions = [root.Regions(number) for number in range(root.RegionsLength())]
    blocks = [region.Blocks(n) for region in regions for n in range(region.BlocksLength())]
    tensors = {each.name: each for block in blocks for each in _tensors(block)}
    found = [each for block in blocks for each in _operators(block)]
    return TosaGraph(
        inputs=tuple(tensors[name] for name in _names(blocks[0], "Inputs")),
        outputs=tuple(tensors[name] for name in _names(blocks[0], "Outputs")),
        operators=tuple(each for each in found if each.kind not in CONSTANTS),
        dtypes={name: tensor.dtype for name, tensor in tensors.items()},
    )


def _tensors(block: Any) -> Iterator[TosaTensor]:
    from tosa.DType import DType

    names = {value: name for name, value in vars(DType).items() if isinstance(value, int)}
    for number in range(block.TensorsLength()):
        tensor = block.Tensors(number)
        tensor.DataAsNumpy()  # raises where a file ends within a tensor
        shape = tuple(tensor.Shape(axis) for axis in range(tensor.ShapeLength()))
        yield TosaTensor(tensor.Name().decode(), names[tensor.Type()], shape)


def _operators(block: Any) -> Iterator[TosaOperator]:
    from tosa.Op import Op

    kinds = {value: name for name, value in vars(Op).items() if isinstance(value, int)}
    for number in range(block.OperatorsLength()):
        operator = block.Operators(number)
        names = (_names(operator, what) for what in ("Inputs", "Outputs"))
        yield TosaOperator(kinds[operator.Op()], _origin(operator), *names)


def _names(table: Any, what: str) -> tuple[str, ...]:
    names, count = getattr(table, what), getattr(table, f"{what}Length")()
    return tuple(names(number).decode() for number in range(count))


def _origin(operator: Any) -> str | None:
    location = operator.Location()
    text = location.Text() if location else None
    source: str | None = json.loads(text).get("origin") if text else None
    return source
