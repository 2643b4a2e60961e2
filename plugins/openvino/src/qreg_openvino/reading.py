"""Read how OpenVINO's CPU plugin compiles a model: which kernels run, on which dtypes."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from attrs import evolve, frozen

from qreg import LoweredOperator
from qreg.backends.naming import origin_in
from qreg.backends.program_graph import Kernel, Kind, ProgramGraph, passed_on
from qreg.graph.walks import reachable
from qreg_openvino.compat import layer

EIGHT_BITS = frozenset({"u8", "i8"})
PACKED = frozenset({*EIGHT_BITS, "i4"})  # of the weights of float activations
NO_KERNELS = frozenset({"Input", "Output"})
QUANTIZE, SNIPPET = "FakeQuantize", "Subgraph"
SOFTMAX, ATTENTION = "::Softmax", "::ScaledDotProductAttention"
PRODUCT, MATMUL = "FullyConnected", "MatMul"
PRODUCTS = (PRODUCT, "Convolution", "Deconvolution", MATMUL)
MULTIPLYING = (*PRODUCTS, SNIPPET)  # a snippet of an attention has two products
INT8 = "_i8"
BIAS = "::Add"  # in the name of a sum
DEQUANTIZATION = "/Dequantization"  # in the name of one moved downstream of its operator


@frozen
class Compiled:
    """The kernels of a compiled model.

    ``scaled`` maps each kernel to those of its operators for which the kernel may compute only the
    dequantization and the bias.
    """

    graph: ProgramGraph
    scaled: Mapping[Kernel, frozenset[str]]

    @staticmethod
    def of(runtime_model: Any, weights: Mapping[str, str] = MappingProxyType({})) -> Compiled:
        """Read the kernels; ``weights`` are the operators by the names of their constants."""
        dtypes: dict[str, str] = {}
        constant: set[str] = set()
        packed: dict[str, str] = {}  # the dtypes of constants of 8 or 4 bits
        scaled: dict[Kernel, frozenset[str]] = {}
        for operation in runtime_model.get_ordered_ops():
            told, name = layer(operation), operation.get_friendly_name()
            producers = [_tensor(each, dtypes) for each in operation.input_values()]
            precisions = told["outputPrecisions"].split(",")
            gives = (name, *(f"{name}:{number}" for number in range(1, len(precisions))))
            if told["layerType"] != "Const":
                dtypes.update(zip(gives, precisions, strict=True))
            # Operations that depend only on constants are computed when the model is loaded.
            if told["layerType"] == "Const" or (producers and constant.issuperset(producers)):
                constant.add(name)
                if precisions[0] in PACKED:
                    packed[name] = precisions[0]
            elif told["layerType"] not in NO_KERNELS:
                dtypes.update({each: packed[each] for each in _weights(told, producers, packed)})
                reads = [each for each in producers if each in dtypes]
                names = _computed(told, name, producers)
                kernel = _kernel(told, _origins(names), reads, gives, dtypes)
                kernel = _with_weight(kernel, producers, weights)
                kernel = _with_scores(kernel, names, scaled)
                for part in _parts(kernel, names, dtypes):
                    scaled[part] = _only_scaled(part, names)
        return Compiled(ProgramGraph(list(scaled), dtypes), scaled)

    def operators(
        self, copies: Mapping[str, str], scaled: Mapping[str, str]
    ) -> Iterator[LoweredOperator]:
        """Yield each operator of the annotated graph with the kernel that computes it.

        No kernel is left of ``copies``: each is reported with the kernel of its producer. A product
        that no kernel is named after is computed by the product that is named after its scaling:
        ``scaled`` maps the one to the other.
        """
        found: dict[str, LoweredOperator] = {}
        for operator in self._computed():
            found[operator.origin or ""] = operator
            yield operator
        for name, producer in copies.items():
            if producer in found and name not in found:
                found[name] = passed_on(found[producer], name)
                yield found[name]
        for name, scaling in scaled.items():
            if name not in found and scaling in found and found[scaling].operator in MULTIPLYING:
                yield evolve(found[scaling], origin=name)

    def _computed(self) -> Iterator[LoweredOperator]:
        pairs = [(kernel, name) for kernel in self.scaled for name in kernel.origins]
        computed = [(kernel, name) for kernel, name in pairs if name not in self.scaled[kernel]]
        multiplied = {name for kernel, name in computed if kernel.kind in PRODUCTS}
        known = {name for _, name in computed}
        for kernel, name in pairs:
            # A reshape may have the name of the product that it reads.
            if name in multiplied and kernel.kind not in PRODUCTS:
                continue
            if name not in self.scaled[kernel] or name not in known:
                yield self.graph.operator(kernel, name)


def _only_scaled(kernel: Kernel, names: Sequence[str]) -> frozenset[str]:
    """Return the operators for which a kernel may compute only the dequantization and the bias.

    A product that has no other name computes the operator whose dequantization it has.
    """
    multiplies = kernel.kind in PRODUCTS
    skipped = (DEQUANTIZATION, *([] if multiplies else [BIAS]))
    found = frozenset(kernel.origins) - set(_origins(names, *skipped))
    return frozenset() if multiplies and len(found) == len(kernel.origins) else found


def _tensor(output: Any, known: Collection[str]) -> str:
    """Return the name of a tensor: that of its kernel, with a number for one of several outputs."""
    name = output.get_node().get_friendly_name()
    numbered = f"{name}:{output.get_index()}"
    return numbered if numbered in known else name


def _weights(
    told: Mapping[str, str], producers: Sequence[str], packed: Mapping[str, str]
) -> list[str]:
    """Return the packed weight of a product whose activations are float, if it has one.

    The plugin quantizes the activations itself, or dequantizes the weight block by block.
    """
    in_float = told["layerType"] == PRODUCT and not told["primitiveType"].lower().endswith(INT8)
    return [each for each in producers[1:2] if in_float and each in packed]


def _computed(told: Mapping[str, str], name: str, producers: Sequence[str]) -> list[str]:
    """Return the names of the operations that a kernel computes.

    The plugin lists what the input computes for a product by a weight in groups, instead of the
    product (openvino 2025.4 and 2026.4).
    """
    names = told["originalLayersNames"].split(",")
    if told["layerType"] != PRODUCT or name in names:
        return names
    return [name, *(each for each in names if each not in producers)]


def _kernel(
    told: Mapping[str, str],
    origins: tuple[str, ...],
    reads: Sequence[str],
    gives: Sequence[str],
    dtypes: Mapping[str, str],
) -> Kernel:
    read, given = ([dtypes[each] for each in names] for names in (reads[:1], gives))
    # The plugin writes I8 for u8: "brgconv_avx512_I8".
    int8 = told["primitiveType"].lower().endswith(INT8) or _reads_packed(told, reads, dtypes)
    kinds = () if origins else _conversions(_quantizes(told), read, given)
    return Kernel(told["layerType"], origins, tuple(reads), tuple(gives), int8, kinds)


def _parts(kernel: Kernel, names: Sequence[str], dtypes: dict[str, str]) -> list[Kernel]:
    """Return the snippet of an attention as two kernels: the scores in int8, the rest in float.

    The rest is in float unless it quantizes the weights. An attention that is one operator is in
    int8, and what the snippet moves around it is not.
    """
    if kernel.kind != SNIPPET or not kernel.int8:
        return [kernel]
    whole = _origins([each for each in names if each.endswith(ATTENTION)])
    place = next((number for number, each in enumerate(names) if SOFTMAX in each), None)
    if whole:
        return _split(kernel, whole, kernel.reads, kernel.reads, kernel.gives)
    if place is None or _quantizes_weights(names[place:]):
        return [kernel]
    scores = f"{kernel.gives[0]}:scores"
    dtypes[scores] = "f32"
    eight = tuple(each for each in kernel.reads if dtypes[str(each)] in EIGHT_BITS)
    others = tuple(each for each in kernel.reads if each not in eight)
    later = _origins(names[place:])
    first = tuple(each for each in kernel.origins if each not in later)
    return _split(kernel, first, eight, (scores, *others), (scores,))


def _split(
    kernel: Kernel,
    in_int8: tuple[str, ...],
    reads: tuple[Hashable, ...],
    others: tuple[Hashable, ...],
    gives: tuple[Hashable, ...],
) -> list[Kernel]:
    """Return a kernel for some operators in int8, and another in float for the others."""
    left = tuple(each for each in kernel.origins if each not in in_int8)
    first = evolve(kernel, origins=in_int8, reads=reads, gives=gives)
    return [first, *([evolve(kernel, origins=left, reads=others, int8=False)] if left else [])]


def _quantizes_weights(names: Sequence[str]) -> bool:
    """Whether a quantization is ahead of the last product, downstream of a softmax."""
    products = [number for number, each in enumerate(names) if each.endswith(f"::{MATMUL}")]
    return any(QUANTIZE in each for each in names[: products[-1]]) if products else False


def _with_scores(kernel: Kernel, names: Sequence[str], earlier: Iterable[Kernel]) -> Kernel:
    """Return the last product of an attention with the product of its scores, if that is int8.

    Outside of a snippet, an attention is several kernels. The last one alone has its name.
    """
    if kernel.kind != MATMUL or not any(each.endswith(ATTENTION) for each in names):
        return kernel
    producers = {tensor: each for each in earlier for tensor in each.gives}
    found = reachable([kernel], lambda each: _unnamed(each, producers))
    scores = [each for each in found if each is not kernel and each.kind == MATMUL and each.int8]
    if not scores:
        return kernel
    return evolve(kernel, reads=(*scores[0].reads, *kernel.reads[1:]), int8=True)


def _unnamed(kernel: Kernel, producers: Mapping[Hashable, Kernel]) -> list[Kernel]:
    """Return the kernels without an operator that a kernel reads."""
    read = [producers[each] for each in kernel.reads if each in producers]
    return [each for each in read if not each.origins]


def _with_weight(kernel: Kernel, producers: Sequence[str], weights: Mapping[str, str]) -> Kernel:
    """Return the kernel of a product with the operator that its weight belongs to.

    The plugin names a product after the last operation that it fuses, and drops the product's name
    where it multiplies a scaled bias.
    """
    names = [weights[each] for each in producers[1:2] if each in weights]
    if kernel.kind not in PRODUCTS or set(names) <= set(kernel.origins):
        return kernel
    return evolve(kernel, origins=(*names, *kernel.origins))


def _reads_packed(told: Mapping[str, str], reads: Sequence[str], dtypes: Mapping[str, str]) -> bool:
    """Whether a product of float activations has a weight of 8 or 4 bits."""
    return told["layerType"] == PRODUCT and any(dtypes[each] in PACKED for each in reads[1:2])


def _quantizes(told: Mapping[str, str]) -> bool:
    """Whether a kernel is a quantization, alone or in a snippet."""
    snippet = told["layerType"] == SNIPPET and QUANTIZE in told["originalLayersNames"]
    return snippet or told["layerType"] == QUANTIZE


def _conversions(quantizes: bool, read: Sequence[str], given: Sequence[str]) -> tuple[Kind, ...]:
    """Return the conversions between float and 8 bits in a kernel without an origin."""
    entered, left = (not EIGHT_BITS.isdisjoint(types) for types in (read, given))
    if quantizes and entered == left:
        return ("requantize",) if entered else ("quantize", "dequantize")
    if entered == left:
        return ()
    return ("dequantize",) if entered else ("quantize",)


def _origins(names: Sequence[str], *without: str) -> tuple[str, ...]:
    """Return the operators of the annotated graph in the names of fused operations.

    Operations with one of ``without`` in their names are skipped.
    """
    kept = (each for each in names if not any(part in each for part in without))
    return tuple(dict.fromkeys(filter(None, map(origin_in, kept))))
