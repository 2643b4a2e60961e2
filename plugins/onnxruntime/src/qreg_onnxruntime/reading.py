"""Read how ONNX Runtime optimizes a model when it loads it: which kernels run, on which dtypes."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from qreg import LoweredOperator
from qreg.backends.naming import origin_in
from qreg.backends.program_graph import Kernel, Kind, ProgramGraph, passed_on
from qreg_onnxruntime.packed_weights import OPERATOR

QUANTIZE, DEQUANTIZE = ("QuantizeLinear", "DynamicQuantizeLinear"), ("DequantizeLinear",)
INTEGER = ("QLinear", "QGemm", "MatMulInteger", "DynamicQuantizeMatMul", "ConvInteger", OPERATOR)
EIGHT_BITS = ("uint8", "int8")
FLOAT = "float32"
MOVES = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Expand")
LAYOUTS = ("Reshape", "Transpose", "ReorderInput", "ReorderOutput")  # the runtime's own
BLOCKED = "_nchwc"  # the runtime's name for a convolution on blocks of channels, after its tensor
COPY = "_token_"  # the suffix that the runtime adds to the name of a node that it changes
GEMM_SCALE = 7  # the input of a QGemm with the scale of its output


@frozen
class Optimized:
    """The graph that the runtime runs, and the source graph that the runtime optimized.

    ``types`` are the dtypes of all tensors. ``parameters`` are the constants that are not reported
    as tensors: scales, zero points, biases. ``absorbed`` are the operators that were eliminated
    ahead of the export; see ``passes.ready``.
    """

    nodes: Sequence[Any]
    source: Sequence[Any]
    types: Mapping[str, str]
    parameters: frozenset[str]
    absorbed: Mapping[str, str]
    _producers: Mapping[str, Any] = field(init=False, repr=False)
    _named: Mapping[str, Any] = field(init=False, repr=False)
    _consumers: Mapping[str, Sequence[Any]] = field(init=False, repr=False)

    @_producers.default
    def _by_output(self) -> dict[str, Any]:
        """The node of the source that produces each tensor."""
        return {name: node for node in self.source for name in node.output}

    @_named.default
    def _by_name(self) -> dict[str, Any]:
        return {node.name: node for node in self.source}

    @_consumers.default
    def _by_input(self) -> dict[str, list[Any]]:
        """The kernels that read each tensor."""
        found: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                found[name].append(node)
        return dict(found)

    @staticmethod
    def of(source: Any, program: bytes, absorbed: Mapping[str, str]) -> Optimized:
        graph = optimized(program).graph
        small = frozenset(each.name for each in graph.initializer if len(each.dims) < 2)
        return Optimized(list(graph.node), list(source.node), _types(graph), small, absorbed)

    def operators(self) -> Iterator[LoweredOperator]:
        """Yield the kernels, and each eliminated operator with the kernel that computes it."""
        found: dict[str, LoweredOperator] = {}
        for operator in self.graph.operators():
            yield operator
            if operator.origin:
                found[operator.origin] = operator
        yield from self._moved_by_nobody(found)
        for name in self.absorbed:
            yield from self._absorbed(name, found)

    @property
    def graph(self) -> ProgramGraph:
        return ProgramGraph(list(self._kernels()), self.types)

    def _kernels(self) -> Iterator[Kernel]:
        """Yield the kernels, except dequantizations whose results are only quantized again."""
        floats = {name for n in self.nodes if n.op_type in DEQUANTIZE for name in n.output}
        for node in self.nodes:
            kind: Kind | None = None
            if node.op_type in QUANTIZE:
                kind = "requantize" if node.input[0] in floats else "quantize"
            elif node.op_type in DEQUANTIZE:
                if _only_quantized(self._consumers.get(node.output[0], ())):
                    continue
                kind = "dequantize"
            yield self._kernel(node, kind)

    def _kernel(self, node: Any, kind: Kind | None) -> Kernel:
        reads = [name for name in node.input if name and name not in self.parameters]
        moved = bool(reads) and self.types[reads[0]] in EIGHT_BITS
        int8 = moved or node.op_type.startswith(INTEGER)
        origin = None if kind else self._origin(node)
        return Kernel(
            node.op_type,
            (origin,) if origin else (),
            tuple(reads),
            tuple(node.output),
            int8,
            (kind,) if kind else (),
        )

    def _origin(self, node: Any) -> str | None:
        """Return the origin of a kernel, or None.

        The origin is in the name of a node. For a node that the runtime created, it is that of the
        node's output or of its consumers.
        """
        known = origin_in(node.name)
        if known or node.op_type in LAYOUTS:
            return known
        names = (node.output[0], node.name.removesuffix(BLOCKED))
        given = [origin_in(self._producers[name].name) for name in names if name in self._producers]
        return next(filter(None, given), None) or self._by_reader(node)

    def _by_reader(self, node: Any) -> str | None:
        """Return the operator whose output the consumers of a kernel read in the source."""
        for consumer in self._consumers.get(node.output[0], ()):
            source = self._named.get(consumer.name.partition(COPY)[0])
            if source is not None and source.op_type == consumer.op_type:
                position = list(consumer.input).index(node.output[0])
                producer = self._producers.get(source.input[position])
                return None if producer is None else origin_in(producer.name)
            if not origin_in(consumer.name):
                return self._origin(consumer)
        return None

    def _moved_by_nobody(self, found: dict[str, LoweredOperator]) -> Iterator[LoweredOperator]:
        """Yield the eliminated operators that move values, each with the kernel of its producer."""
        left: dict[str, str] = {}  # for each tensor, the remaining operator that produces it
        for node in self.source:
            origin, producer = (
                origin_in(node.name),
                left.get(node.input[0], "") if node.input else "",
            )
            if origin and origin not in found and node.op_type in MOVES and producer in found:
                found[origin] = passed_on(found[producer], origin)
                yield found[origin]
            left.update(dict.fromkeys(node.output, origin if origin in found else producer))

    def _absorbed(
        self, name: str, found: Mapping[str, LoweredOperator]
    ) -> Iterator[LoweredOperator]:
        """Yield an eliminated operator with the kernel, or the quantization, that computes it."""
        base = self.absorbed[name]
        while base in self.absorbed:
            base = self.absorbed[base]
        if base in found:
            yield passed_on(found[base], name)
        elif not base:
            yield LoweredOperator(name, QUANTIZE[0], True, 0, (FLOAT,), EIGHT_BITS[:1])


def _only_quantized(users: Sequence[Any]) -> bool:
    return bool(users) and all(user.op_type in QUANTIZE for user in users)


def optimized(program: bytes) -> Any:
    """Return the ``onnx.ModelProto`` that the runtime runs, after its optimizations."""
    import onnx

    from qreg_onnxruntime.runtime import session

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        session(program, optimized_model_filepath=str(path))
        return onnx.load(path)


def _types(graph: Any) -> dict[str, str]:
    """Return the dtype of each tensor, under numpy's names."""
    from onnx import helper

    def spelled(element: int) -> str:
        return str(helper.tensor_dtype_to_np_dtype(element))

    found = {each.name: spelled(each.data_type) for each in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type:
            found[value.name] = spelled(value.type.tensor_type.elem_type)
    for node in graph.node:
        if node.op_type == OPERATOR:
            (bits,) = (each.i for each in node.attribute if each.name == "bits")
            found[node.input[1]] = f"int{bits}"
        given = _given(node, [found.get(name, FLOAT) for name in node.input])
        for name in node.output:
            found.setdefault(name, given)
    return found


def _given(node: Any, reads: Sequence[str]) -> str:
    """Return the dtype of a kernel's output, for tensors that the runtime created."""
    eight = next((each for each in reads if each in EIGHT_BITS), "uint8")
    if node.op_type in QUANTIZE:
        return next((each for each in reversed(reads) if each in EIGHT_BITS), "uint8")
    if node.op_type in (*DEQUANTIZE, "MatMulIntegerToFloat", "DynamicQuantizeMatMul"):
        return FLOAT
    if node.op_type == "QGemm":
        return eight if len(node.input) > GEMM_SCALE and node.input[GEMM_SCALE] else FLOAT
    return eight if node.op_type.startswith("QLinear") else next(iter(reads), FLOAT)
