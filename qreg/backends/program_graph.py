"""Represent a lowered program by its kernels and the tensors between them.

A plugin makes the kernels; which operator runs where, and between which operators values are
converted, follows from them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias

from attrs import evolve, frozen

from qreg.backends.inputs import dtype_name
from qreg.plugins.types.program import Conversion, LoweredOperator

Kind: TypeAlias = Literal["quantize", "dequantize", "requantize"]
EIGHT_BITS = frozenset({"int8", "uint8"})


@frozen(eq=False)
class Kernel:
    """One step of a program.

    ``kind`` is the runtime's name for it. ``origins`` are the operators of the annotated graph that
    it computes, in order; a kernel that the lowering added has none. ``reads`` and ``gives`` name
    its input and output tensors. ``int8`` is whether it computes on quantized values.
    ``conversions`` are the conversions that it performs; a kernel with any is not an operator.
    """

    kind: str
    origins: tuple[str, ...]
    reads: tuple[Hashable, ...]
    gives: tuple[Hashable, ...]
    int8: bool = False
    conversions: tuple[Kind, ...] = ()


@frozen(eq=False, slots=False)
class ProgramGraph:
    """The kernels of a subgraph in the order in which they run, and the dtypes of its tensors.

    Dtypes have the runtime's names. Tensors without a dtype are not listed.
    """

    kernels: Sequence[Kernel]
    dtypes: Mapping[Any, str]
    delegate: int = 0

    def operators(self) -> Iterator[LoweredOperator]:
        """Yield each operator of the annotated graph, with the kernel that computes it."""
        for kernel in self.kernels:
            for origin in () if kernel.conversions else kernel.origins or (None,):
                yield self.operator(kernel, origin)

    def operator(self, kernel: Kernel, origin: str | None) -> LoweredOperator:
        """Return a kernel as one of the operators that it computes."""
        reads, gives = self.types(kernel.reads), self.types(kernel.gives)
        return LoweredOperator(origin, kernel.kind, kernel.int8, self.delegate, reads, gives)

    def conversions(self) -> Iterator[Conversion]:
        """Yield the conversions between float and int8, with the nearest operators on each side."""
        for kernel in self.kernels:
            for kind in kernel.conversions:
                producers = dict.fromkeys(self._upstream(kernel))
                consumers = dict.fromkeys(self._downstream(kernel))
                yield Conversion(kind, self.delegate, producers, consumers)

    def types(self, tensors: Iterable[Hashable]) -> list[str]:
        return [self.dtypes[each] for each in tensors if each in self.dtypes]

    def _upstream(self, kernel: Kernel) -> Iterator[str]:
        for tensor in kernel.reads:
            if (other := self._producers.get(tensor)) is not None:
                yield from other.origins[-1:] or self._upstream(other)

    def _downstream(self, kernel: Kernel) -> Iterator[str]:
        for tensor in kernel.gives:
            for other in self._consumers[tensor]:
                yield from other.origins[:1] or self._downstream(other)

    @cached_property
    def _producers(self) -> dict[Hashable, Kernel]:
        return {tensor: kernel for kernel in self.kernels for tensor in kernel.gives}

    @cached_property
    def _consumers(self) -> dict[Hashable, list[Kernel]]:
        found: dict[Hashable, list[Kernel]] = defaultdict(list)
        for kernel in self.kernels:
            for tensor in dict.fromkeys(kernel.reads):
                found[tensor].append(kernel)
        return found


def within(host: LoweredOperator, origin: str) -> LoweredOperator:
    """Return an operator that has no kernel, because the kernel of ``host`` includes it."""
    operator = f"within {host.operator.removeprefix('within ')}"
    return LoweredOperator(origin, operator, host.int8, host.delegate)


def passed_on(producer: LoweredOperator, origin: str) -> LoweredOperator:
    """Return an operator that passes on the value of ``producer``, with the dtype of that value."""
    int8 = dtype_name(producer.gives[0]) in EIGHT_BITS
    return evolve(
        within(producer, origin), int8=int8, reads=producer.gives[:1], gives=producer.gives
    )
