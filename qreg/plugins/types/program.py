"""Lowered programs, as read back by the plugin that lowered them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Literal

from attrs import field, frozen

from qreg.plugins.types.fields import strings


@frozen
class LoweredOperator:
    """One operator of a lowered program, read from the program.

    ``origin`` is the node of the annotated graph that it comes from (``Decision.node``), None for
    an operator that the lowering added. ``operator`` and the types of its inputs (``reads``) and
    outputs (``gives``) are spelled as in the backend. ``int8`` is whether it computes on quantized
    values. ``delegate`` is the number of the subgraph that it is in, None if it is not delegated.
    """

    origin: str | None
    operator: str
    int8: bool
    delegate: int | None = None
    reads: tuple[str, ...] = field(default=(), converter=strings)
    gives: tuple[str, ...] = field(default=(), converter=strings)


@frozen
class Conversion:
    """A conversion between float and int8, or between qparams, in a lowered program.

    ``kind`` is ``"quantize"``, ``"dequantize"`` or ``"requantize"``. ``producers`` and
    ``consumers`` are the origins of the operators that write and read the value, if they are in the
    same subgraph.
    """

    kind: Literal["quantize", "dequantize", "requantize"]
    delegate: int | None
    producers: tuple[str, ...] = field(default=(), converter=strings)
    consumers: tuple[str, ...] = field(default=(), converter=strings)

    @property
    def is_leftover(self) -> bool:
        """Whether the conversion is not on the border of an int8 part in a delegate."""
        return self.delegate is None or self.kind == "requantize"


@frozen
class Lowered:
    """A program in the backend's own format.

    ``delegates`` is the number of delegated subgraphs. ``outside`` are the operators that are not
    delegated and run on the runtime's portable kernels, one entry for each occurrence.
    ``changed_inputs`` is the number of inputs that the program changes in place; it returns them
    ahead of its outputs. ``operators`` and ``conversions`` are read from the program; ``operators``
    is None if the format cannot be read back. ``methods`` are the parts of a program with several
    methods by name, each with the whole program; it is empty for a program with one.
    """

    program: bytes = field(repr=lambda program: f"<{len(program)} bytes>")
    delegates: int
    outside: tuple[str, ...] = field(default=(), converter=strings)
    changed_inputs: int = 0
    operators: Sequence[LoweredOperator] | None = field(default=None, repr=False)
    conversions: Sequence[Conversion] = field(default=(), repr=False)
    methods: Mapping[str, Lowered] = field(factory=dict, repr=False)

    @classmethod
    def of_methods(cls, methods: Mapping[str, Lowered]) -> Lowered:
        """Return a program with several methods, given its part for each; all hold the program."""
        parts = list(methods.values())
        return cls(
            program=parts[0].program,
            delegates=sum(each.delegates for each in parts),
            outside=tuple(chain.from_iterable(each.outside for each in parts)),
            methods=methods,
        )
