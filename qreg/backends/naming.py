"""Names for what is lowered, by which a plugin finds the annotated operators in a program again.

For formats that keep the names of their nodes. An operator that becomes several nodes gives each of
them its name, and a separator and the kind of the node after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen

from qreg.errors import LoweringError
from qreg.graph.provenance import described

if TYPE_CHECKING:
    from torch.fx import Graph

SEPARATOR = "::"


@frozen
class UniqueNames:
    """Names that tell where a node comes from, each given once: ``conv2d::Conv``, ``Cast_1``."""

    _counts: Counter[str] = field(init=False, factory=Counter, repr=False)

    def name(self, origin: str | None, kind: str) -> str:
        """Return a name for a node of some kind that comes from an operator, or was added."""
        name = f"{origin}{SEPARATOR}{kind}" if origin else kind
        self._counts[name] += 1
        number = self._counts[name] - 1
        return f"{name}_{number}" if number else name


def origin_in(name: str) -> str | None:
    """Return the operator in a name that ``UniqueNames`` made; None for one that was added."""
    origin, separator, _ = name.partition(SEPARATOR)
    return origin if separator else None


def output_names(count: int) -> list[str]:
    """Return names for the outputs of a program: ``output``, or ``output_0``, ``output_1`` ..."""
    return ["output"] if count == 1 else [f"output_{number}" for number in range(count)]


def not_converted(
    converter: str, graph: Graph, operators: Sequence[str], cause: BaseException
) -> LoweringError:
    """Return the error for operators without a conversion, with the place of each in a graph.

    ``converter`` is the name of what converts programs. Without operators, the message has
    ``cause``.
    """
    places: Iterable[str] = [described(n) for n in graph.nodes if str(n.target) in operators]
    what = ", ".join(places or operators)
    if not what:
        return LoweringError(f"{converter} does not convert the program: {cause}")
    return LoweringError(
        f"{converter} has no conversion for {what}. Replace it with supported operators"
    )
