"""Reads what OpenVINO's CPU plugin makes of a model: which kernels run, on which types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from attrs import evolve, frozen

from qreg import Conversion, LoweredOperator
from qreg_openvino.compat import layer
from qreg_openvino.converting import SEPARATOR

EIGHT_BITS = frozenset({"u8", "i8"})
NO_KERNELS = frozenset({"Input", "Output"})
QUANTIZE = "FakeQuantize"
DEQUANTIZATION = "/Dequantization"  # in the name of one that moved behind its operator

Kind: TypeAlias = Literal["quantize", "dequantize", "requantize"]


@frozen
class Kernel:
    """One operation of the compiled model.

    ``origins`` are the operators of the annotated graph that it computes, the fused ones too.
    ``scaled`` are those among them of which it may have no more than the dequantization.
    """

    name: str
    type: str
    int8: bool
    gives: tuple[str, ...]
    origins: tuple[str, ...]
    scaled: frozenset[str]
    before: tuple[str, ...]

    @staticmethod
    def of(operation: Any) -> Kernel:
        told = layer(operation)
        names = told["originalLayersNames"].split(",")
        return Kernel(
            name=operation.get_friendly_name(),
            type=told["layerType"],
            # The plugin writes I8 for u8: "brgconv_avx512_I8".
            int8=told["primitiveType"].lower().endswith("_i8"),
            gives=tuple(told["outputPrecisions"].split(",")),
            origins=_origins(names),
            scaled=frozenset(_origins(names)) - set(_origins(names, DEQUANTIZATION)),
            before=tuple(
                value.get_node().get_friendly_name() for value in operation.input_values()
            ),
        )


@frozen
class Compiled:
    """The kernels of a compiled model by name, in the order in which they run."""

    kernels: Mapping[str, Kernel]

    @staticmethod
    def of(runtime_model: Any) -> Compiled:
        kernels = map(Kernel.of, runtime_model.get_ordered_ops())
        return Compiled({kernel.name: kernel for kernel in kernels})

    def operators(self, copies: Mapping[str, str]) -> Iterator[LoweredOperator]:
        """Each operator of the annotated graph as the kernel that computes it.

        No kernel is left of ``copies``: they are within the one that gives what they copy.
        """
        found: dict[str, LoweredOperator] = {}
        for operator in self._computed():
            found[operator.origin or ""] = operator
            yield operator
        for name, giver in copies.items():
            if giver in found and name not in found:
                found[name] = _within(found[giver], name)
                yield found[name]

    def _computed(self) -> Iterator[LoweredOperator]:
        running = list(self._running())
        computed = {name for each in running for name in each.origins if name not in each.scaled}
        for kernel in running:
            reads = self._reads(kernel)
            for origin in kernel.origins:
                if origin in kernel.scaled and origin in computed:
                    continue
                yield LoweredOperator(origin, kernel.type, kernel.int8, 0, reads, kernel.gives)

    def conversions(self) -> Iterator[Conversion]:
        """The kernels that change between float and 8 bits, and that no operator is left to."""
        for kernel in self._running():
            if not kernel.origins:
                for kind in self._kinds(kernel):
                    yield Conversion(kind, 0, self._behind(kernel), self._readers(kernel.name))

    def _kinds(self, kernel: Kernel) -> tuple[Kind, ...]:
        entered = bool(EIGHT_BITS.intersection(self._reads(kernel)[:1]))
        left = bool(EIGHT_BITS.intersection(kernel.gives))
        if kernel.type == QUANTIZE and entered == left:
            return ("requantize",) if entered else ("quantize", "dequantize")
        if entered == left:
            return ()
        return ("dequantize",) if entered else ("quantize",)

    def _running(self) -> Iterator[Kernel]:
        """The kernels that compute on activations: others are done with when the model loads."""
        constant: set[str] = set()
        for kernel in self.kernels.values():
            if kernel.type == "Const" or (kernel.before and constant.issuperset(kernel.before)):
                constant.add(kernel.name)
            elif kernel.type not in NO_KERNELS:
                yield kernel

    def _reads(self, kernel: Kernel) -> tuple[str, ...]:
        givers = [self.kernels[name] for name in kernel.before]
        return tuple(giver.gives[0] for giver in givers if giver.type != "Const")

    def _behind(self, kernel: Kernel) -> tuple[str, ...]:
        """The operators that give what a kernel reads, through other kernels without one."""
        givers = [self.kernels[name] for name in kernel.before[:1]]
        found = [giver.origins[-1:] or self._behind(giver) for giver in givers]
        return tuple(name for names in found for name in names)

    def _readers(self, name: str) -> tuple[str, ...]:
        readers = [each for each in self.kernels.values() if name in each.before]
        found = [reader.origins[:1] or self._readers(reader.name) for reader in readers]
        return tuple(dict.fromkeys(name for names in found for name in names))


def _within(giver: LoweredOperator, name: str) -> LoweredOperator:
    """A copy, which is left to the kernel that gives its value, and has the type of that."""
    operator = f"within {giver.operator.removeprefix('within ')}"
    int8 = giver.gives[0] in EIGHT_BITS
    return evolve(giver, origin=name, operator=operator, int8=int8, reads=giver.gives[:1])


def _origins(names: Sequence[str], without: str | None = None) -> tuple[str, ...]:
    """The operators of the annotated graph in the names of fused operations.

    ``without`` leaves out the operations that have this in their names.
    """
    kept = (each for each in names if without is None or without not in each)
    parts = (each.partition(SEPARATOR) for each in kept)
    return tuple(dict.fromkeys(origin for origin, separator, _ in parts if separator))
