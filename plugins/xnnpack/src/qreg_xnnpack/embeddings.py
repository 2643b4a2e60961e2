"""Quantized embeddings, rewritten for ExecuTorch's operators that look up a row and dequantize it.

executorch 1.4.1 has ``embedding_byte``, ``embedding_4bit`` and ``embedding_2bit``. Without them, a
program would dequantize the whole table for each lookup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from qreg import LoweredOperator
from qreg.backends.exported import dtypes_of, float_operators, name_of
from qreg.graph.insertion import call_before
from qreg.graph.nodes import called, calls
from qreg.graph.provenance import origin

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

BITS = {(-8, 7): 4, (-2, 1): 2}  # the ranges that are packed
OPERATORS = {8: "embedding_byte", 4: "embedding_4bit", 2: "embedding_2bit"}
BY_ROW = "quantized_decomposed.dequantize_per_channel.default"
IN_GROUPS = "torchao.dequantize_affine.default"


def bits_of(spec: Any) -> int:
    """Return the bits that each value of a table occupies, for the spec of the table."""
    return BITS.get((spec.quant_min, spec.quant_max), 8)


def look_up_quantized(program: ExportedProgram) -> None:
    """Rewrite the lookups in dequantized tables, in place.

    Zero points are all 0, because weights are symmetric; they are removed from the program.
    """
    for node in calls(program.graph, {"aten.embedding.default"}):
        table, indices = cast("list[Node]", list(node.args[:2]))
        if called(table) in (BY_ROW, IN_GROUPS):
            _rewrite(program, node, table, indices)


def _rewrite(program: ExportedProgram, node: Node, table: Node, indices: Node) -> None:
    """Rewrite one lookup, without the index of a padding row, which matters in training only."""
    import executorch.exir.passes._quant_patterns_and_replacements  # noqa: F401
    import torch

    weight, scale, zero_point, low, high = _qparams(table)
    bits = BITS.get((low, high), 8)
    if indices.meta["val"].dtype != torch.int64:  # other indices end the process
        indices = call_before(node, torch.ops.aten.to.dtype, indices, torch.int64)
    values = weight if bits == 8 else _packed(program, weight, bits)
    node.target = getattr(torch.ops.quantized_decomposed, OPERATORS[bits]).default
    node.args, node.kwargs = (values, scale, None, low, high, indices), {}
    if not table.users:
        node.graph.erase_node(table)
    for constant in (weight, zero_point):
        _erase_unread(program, constant)


def _qparams(dequantize: Node) -> tuple[Any, ...]:
    """Return the values, scales, zero points and limits of a dequantized table."""
    args = cast("tuple[Any, ...]", dequantize.args)
    if called(dequantize) == BY_ROW:
        return (*args[:3], *args[4:6])
    values, _, scale, zero_point, _, *limits = args
    return (values, scale, zero_point, *map(int, limits[:2]))


def _packed(program: ExportedProgram, weight: Node, bits: int) -> Node:
    """Return a new constant with several values of a row in each byte (uint8)."""
    from executorch.backends.transforms.utils import create_constant_placeholder, get_param_tensor
    from torch.export.graph_signature import InputKind

    values = pack(get_param_tensor(program, weight), bits)
    with program.graph.inserting_before(weight):
        name = f"{weight.name}_of_{bits}_bits"
        packed: Node = create_constant_placeholder(
            program, program.graph, name, InputKind.BUFFER, values, persistent_buffer=True
        )
    return packed


def pack(values: Tensor, bits: int) -> Tensor:
    """Pack signed integers (int8, shape (rows, columns)) into bytes (uint8).

    4-bit values begin with the high half of a byte, 2-bit values with its low quarter, both without
    sign, as executorch 1.4.1 reads them.
    """
    import torch

    parts = (values.to(torch.int16) + 2 ** (bits - 1)).unflatten(1, (-1, 8 // bits))
    shifts = torch.arange(0, 8, bits)
    shifts = shifts.flip(0) if bits == 4 else shifts
    packed: Tensor = (parts << shifts).sum(-1).to(torch.uint8)
    return packed


def _erase_unread(program: ExportedProgram, constant: Node) -> None:
    from executorch.backends.transforms.utils import delete_constant_placeholder

    if not constant.users:
        delete_constant_placeholder(program, constant)


def operators_outside(nodes: Iterable[Node]) -> Iterator[LoweredOperator]:
    """Return the operators among nodes that are not delegated: quantized lookups, and others."""
    for node in nodes:
        bits = _bits_read(node)
        if bits is None:
            yield from float_operators([node])
        else:
            reads = [f"int{bits}", *dtypes_of(cast("Node", node.args[-1]))]
            yield LoweredOperator(origin(node), name_of(node), True, None, reads, dtypes_of(node))


def _bits_read(node: Node) -> int | None:
    """Return the bits of each value that a quantized lookup reads; None for another operator."""
    name = name_of(node).removeprefix("quantized_decomposed.").partition(".")[0]
    return next((bits for bits, operator in OPERATORS.items() if operator == name), None)
