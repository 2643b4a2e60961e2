"""What a lowered program is, as the plugin that lowered it reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import field, frozen

from qreg.plugins.types.fields import strings


@frozen
class LoweredOperator:
    """One operator of a lowered program, as the program itself says.

    ``origin`` is the node of the annotated graph that it comes from (``Decision.node``), None for
    what the lowering added. ``operator`` and the types of its tensors, ``reads`` and ``gives``, are
    in the words of the backend. ``int8`` says whether it computes on quantized values. ``delegate``
    is the number of the subgraph that it is in, None outside of all.
    """

    origin: str | None
    operator: str
    int8: bool
    delegate: int | None = None
    reads: tuple[str, ...] = field(default=(), converter=strings)
    gives: tuple[str, ...] = field(default=(), converter=strings)


@frozen
class Conversion:
    """A change between float and int8, or of parameters, that a lowered program carries out.

    ``kind`` is ``"quantize"``, ``"dequantize"`` or ``"requantize"``. ``producers``
    and ``consumers`` are the origins of the operators that write and read the value, where these
    are in the same subgraph.
    """

    kind: Literal["quantize", "dequantize", "requantize"]
    delegate: int | None
    producers: tuple[str, ...] = field(default=(), converter=strings)
    consumers: tuple[str, ...] = field(default=(), converter=strings)

    @property
    def is_leftover(self) -> bool:
        """Whether it belongs to no border of an int8 part in a delegate."""
        return self.delegate is None or self.kind == "requantize"


@frozen
class Lowered:
    """A program in the backend's own format.

    ``delegates`` is the number of subgraphs that the backend took; ``outside`` are the operators
    that were left to the runtime's portable kernels, one entry for each occurrence.
    ``changed_inputs`` counts the inputs that the program changes in place; it gives them before
    its outputs. ``operators`` and ``conversions`` are read from the program; ``operators`` is None
    where the format cannot be read back.
    """

    program: bytes = field(repr=lambda program: f"<{len(program)} bytes>")
    delegates: int
    outside: tuple[str, ...] = field(default=(), converter=strings)
    changed_inputs: int = 0
    operators: Sequence[LoweredOperator] | None = field(default=None, repr=False)
    conversions: Sequence[Conversion] = field(default=(), repr=False)
