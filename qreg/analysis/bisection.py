"""Bisect a model for the first pattern at which a backend goes wrong, within a budget.

An error at one operator stays visible downstream, so bisection finds the first one with a handful
of lowerings. It lowers parts of the model, each of which may take as long as the whole: the search
has a budget of lowerings and of seconds, and says how far it came.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from attrs import define, frozen

from qreg.analysis.parts import ends, up_to
from qreg.errors import QregError
from qreg.graph.provenance import origin
from qreg.inputs.specs import flat
from qreg.programs.export import export
from qreg.verification.metrics import compare_all, is_far
from qreg.verification.runner import check_alike, outputs_of, repeats_for, run_program

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

    from qreg.plugins.types.backend import Runner
    from qreg.plugins.types.decision import Decision
    from qreg.plugins.types.program import Lowered

LOWERINGS = 20  # enough for a million patterns
SECONDS = 120.0


@contextmanager
def silent(total: int) -> Iterator[Callable[[], None]]:
    """Show nothing of the steps of a search."""
    yield lambda: None


@define
class Search:
    """How a part of a model is lowered, run and judged, and what the search may cost.

    ``load`` None runs nothing. No part is lowered after ``lowerings`` parts, or after ``seconds``;
    a lowering that has begun is not interrupted. ``stage`` shows the steps of the bisection.
    """

    lower: Callable[[ExportedProgram], Lowered]
    load: Callable[[bytes], Runner] | None
    floor: float
    lowerings: int = LOWERINGS
    seconds: float = SECONDS
    stage: Callable[[int], AbstractContextManager[Callable[[], None]]] = silent
    lowered: int = 0
    taken: float = 0.0

    @property
    def spent(self) -> bool:
        """Whether the budget allows no further lowering."""
        return self.lowered >= self.lowerings or self.taken >= self.seconds

    def works(self, part: GraphModule, samples: Sequence[tuple[Any, ...]]) -> bool:
        """Whether a part lowers, and runs as it should in the backend."""
        began = time.perf_counter()
        try:
            return self._works(part, samples)
        finally:
            self.lowered += 1
            self.taken += time.perf_counter() - began

    def _works(self, part: GraphModule, samples: Sequence[tuple[Any, ...]]) -> bool:
        try:
            lowered = self.lower(export(part, samples[0]))
            if self.load is None:
                return True
            got = run_program(self.load, lowered, samples, repeats_for(part))
            wanted = outputs_of(part, samples)
            check_alike(got, wanted)
        except QregError:
            return False
        return not any(is_far(each, self.floor) for each in compare_all(got, wanted))


@frozen
class Found:
    """The operators among which is the first that goes wrong.

    They are those of one pattern, unless the search was ``stopped`` by its budget. There are none
    if every part works and only the whole model fails.
    """

    operators: tuple[Node, ...]
    stopped: bool = False


def suspect(
    converted: GraphModule,
    decisions: Sequence[Decision],
    samples: Sequence[tuple[Any, ...]],
    search: Search,
) -> Found:
    """Return the operators of the first pattern at which a lowered model fails.

    A part fails if it does not lower, load or run, or if its outputs differ from the model's.
    """
    inputs = [tuple(flat(sample)) for sample in samples]
    cuts = ends(converted, decisions)
    right, wrong = -1, len(cuts)
    with search.stage(len(cuts).bit_length()) as step:
        while wrong - right > 1 and not search.spent:
            middle = (right + wrong) // 2
            works = search.works(up_to(converted, cuts[middle]), inputs)
            right, wrong = (middle, wrong) if works else (right, middle)
            step()
    stopped = wrong - right > 1
    if wrong == len(cuts) and not stopped:
        return Found(())
    return Found(tuple(_between(converted, [None, *cuts, None], right + 1, wrong + 1)), stopped)


def _between(
    converted: GraphModule, cuts: Sequence[Node | None], right: int, wrong: int
) -> Iterator[Node]:
    """Yield the operators after one cut, up to and including another; None is the graph's end."""
    position: dict[Node | None, int] = {
        node: number for number, node in enumerate(converted.graph.nodes)
    }
    first = -1 if cuts[right] is None else position[cuts[right]]
    last = len(position) if cuts[wrong] is None else position[cuts[wrong]]
    for node, at in position.items():
        if node is not None and first < at <= last and origin(node):
            yield node
