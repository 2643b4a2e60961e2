"""Size in bytes of the parameters of a model, and of the constants of each operator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from torch import Tensor

from qreg.graph.nodes import argument
from qreg.graph.provenance import origin
from qreg.graph.values import value_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node


def parameter_bytes(program: ExportedProgram) -> int:
    """Return the size of a program's parameters, buffers and constants in bytes.

    Tied parameters and overlapping views are counted once.
    """
    values = chain(program.state_dict.values(), program.constants.values())
    return tensor_bytes(value for value in values if isinstance(value, Tensor))


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes that tensors occupy together; overlapping bytes are counted once."""
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for each in tensors:
        if each.numel():
            start, end = _span(each)
            spans[each.untyped_storage().data_ptr()].append((start, end))
    return sum(_covered(each) for each in spans.values())


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte that a tensor uses in its storage, and the byte after its last."""
    strides = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in strides)
    start = int(tensor.storage_offset()) * tensor.element_size()
    return start, start + int(last + 1) * tensor.element_size()


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    covered = reached = 0
    for start, end in sorted(spans):
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def constant_bytes(model: GraphModule) -> dict[str, float]:
    """Return the bytes of the constants of each operator, by its origin.

    ``model`` is the float or the converted graph. A quantized constant takes as many bits as its
    range needs, as runtimes with packed weights store it, and has its scales. A constant that
    several operators read counts for the first of them.
    """
    seen: set[str] = set()
    found: dict[str, float] = defaultdict(float)
    for node in model.graph.nodes:
        name = origin(node)
        for constant, dequantize in _constants(node) if name else ():
            if constant.target not in seen:
                seen.add(str(constant.target))
                found[str(name)] += _stored(model, constant, dequantize)
    return dict(found)


def _constants(node: Node) -> Iterator[tuple[Node, Node | None]]:
    """Yield the constants that an operator reads, each with its dequantize."""
    for given in node.all_input_nodes:
        if given.op == "get_attr":
            yield given, None
        elif "dequantize" in str(given.target):
            source = given.all_input_nodes[0]
            if "quantize" in str(source.target) and source.op == "call_function":  # not folded
                source = source.all_input_nodes[0]
            if source.op == "get_attr":
                yield source, given


def _stored(model: GraphModule, constant: Node, dequantize: Node | None) -> float:
    value = value_of(model, constant)
    if not isinstance(value, Tensor):  # the body of a loop or branch
        return 0.0
    if dequantize is None:
        return value.numel() * value.element_size()
    low, high = (_limit(dequantize, name) for name in ("quant_min", "quant_max"))
    scales = [value_of(model, each) for each in dequantize.all_input_nodes if each.op == "get_attr"]
    more = sum(each.numel() * each.element_size() for each in scales if each.is_floating_point())
    return value.numel() * (high - low).bit_length() / 8 + more


def _limit(dequantize: Node, name: str) -> int:
    """Return an argument of a dequantize by the name that its schema has for it."""
    arguments = dequantize.target._schema.arguments  # type: ignore[union-attr]
    position = next(at for at, each in enumerate(arguments) if each.name == name)
    return int(argument(dequantize, position))
