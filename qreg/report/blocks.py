"""Repeated blocks: parts of a model with the same operators, such as the layers of a transformer.

A stack is a module whose children are numbered, as those of ``nn.ModuleList`` and
``nn.Sequential``. Its blocks are the children with the same operators, at the same places and of
the same shapes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen

if TYPE_CHECKING:
    from qreg.report.values import Operator

LEAST = 4  # blocks; fewer are as quick to read one by one

Shape: TypeAlias = "tuple[tuple[str, str, int, tuple[int | None, ...] | None], ...]"


@frozen
class Stack:
    """Blocks with the same operators, in the order of their numbers.

    ``path`` is the module path of the stack, ``blocks`` have the operators of each block.
    """

    path: str
    numbers: tuple[int, ...]
    blocks: tuple[tuple[Operator, ...], ...]

    @property
    def places(self) -> list[tuple[Operator, ...]]:
        """The operators at the same place of all blocks, one tuple for each place."""
        return list(zip(*self.blocks, strict=True))

    @property
    def outputs(self) -> list[tuple[str, Operator]]:
        """The path of each block, with its last operator."""
        names = (f"{self.path}.{number}" if self.path else str(number) for number in self.numbers)
        return [(name, block[-1]) for name, block in zip(names, self.blocks, strict=True)]


def stacks(operators: Iterable[Operator]) -> list[Stack]:
    """Return the stacks of a model that have at least ``LEAST`` blocks alike."""
    numbered: dict[str, dict[int, list[Operator]]] = defaultdict(lambda: defaultdict(list))
    for each in operators:
        path, number, _ = split(each.module)
        if number is not None:
            numbered[path][number].append(each)
    found = (_most_alike(path, blocks) for path, blocks in numbered.items())
    return [each for each in found if len(each.blocks) >= LEAST]


def folded(operators: Sequence[Operator]) -> list[tuple[Operator, ...]]:
    """Return the operators, with those at the same place of repeated blocks together."""
    places = [place for stack in stacks(operators) for place in stack.places]
    starts = {place[0].name: place for place in places}
    inside = {each.name for place in places for each in place}
    return [
        starts.get(each.name, (each,))
        for each in operators
        if each.name in starts or each.name not in inside
    ]


def split(module: str) -> tuple[str, int | None, str]:
    """Return the path of the outermost stack, the number of the block, and the path in it.

    The number is None for a module outside of stacks.
    """
    parts = module.split(".")
    at = next((place for place, part in enumerate(parts) if part.isdecimal()), None)
    if at is None:
        return module, None, ""
    return ".".join(parts[:at]), int(parts[at]), ".".join(parts[at + 1 :])


def starred(module: str) -> str:
    """Return the path of a module in a block, with a star for the number of the block."""
    path, number, rest = split(module)
    return module if number is None else ".".join(part for part in (path, "*", rest) if part)


def _most_alike(path: str, blocks: dict[int, list[Operator]]) -> Stack:
    alike: dict[Shape, list[int]] = defaultdict(list)
    for number in sorted(blocks):
        alike[_shape(blocks[number])].append(number)
    numbers = max(alike.values(), key=len)
    return Stack(path, tuple(numbers), tuple(tuple(blocks[each]) for each in numbers))


def _shape(block: Iterable[Operator]) -> Shape:
    return tuple((split(o.module)[2], o.operator, o.ordinal, o.shape) for o in block)
