"""Which values are masks, whose sum with scores has no scale."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import Graph

from qreg.annotators import masks
from qreg.annotators.rules import moderate_constants
from qreg.folding.fold import folded
from qreg.graph.nodes import called
from qreg.plugins.types.annotator import Match

KEPT = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
SINK = torch.zeros(2, 1)
Combined = Callable[[Tensor, Tensor], Tensor]


class Scores(nn.Module):
    """Scores of two positions for four others, combined with a mask ahead of a softmax."""

    def __init__(self, combined: Combined) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.combined, self.linear = combined, nn.Linear(8, 4)
        self.position = nn.Buffer(torch.zeros(1))

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        scores = torch.softmax(self.combined(self.linear(x), keep), -1)
        self.position.add_(1)
        return scores


class Counted(Scores):
    """A mask that hides what is behind a counted position."""

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        hidden = torch.where(torch.arange(4) <= self.position, 0.0, -30.0)
        scores = torch.softmax(self.linear(x) + hidden, -1)
        self.position.add_(1)
        return scores


INPUT, FILLED = "computed from inputs or state", "minus infinity"
MASKED: dict[str, tuple[nn.Module, str]] = {
    "an input": (Scores(lambda scores, keep: scores + keep), INPUT),
    "an input, seen through a view": (
        Scores(lambda scores, keep: (scores + keep).view(1, 2, 4) * 2),
        INPUT,
    ),
    "behind a transpose and a limit": (
        Scores(
            lambda scores, keep: (scores + keep).transpose(0, 1).clamp(min=-1e3).transpose(0, 1)
        ),
        INPUT,
    ),
    "as OPT's": (Scores(lambda scores, keep: torch.max(scores + keep, torch.tensor(-1e3))), INPUT),
    "next to a sink": (Scores(lambda scores, keep: torch.cat([scores + keep, SINK], -1)), INPUT),
    "in place": (Scores(lambda scores, keep: scores.add_(keep)), INPUT),
    "a factor": (Scores(lambda scores, keep: scores + (1 - keep) * -20.0), INPUT),
    "a large factor": (Scores(lambda scores, keep: scores + (1 - keep) * -100.0), FILLED),
    "a choice": (
        Scores(lambda scores, keep: scores + torch.where(keep > 0, 0.0, -60.0)),
        FILLED,
    ),
    "a constant": (Scores(lambda scores, keep: scores + (1 - KEPT) * -100.0), "reaches 100"),
    "as BERT's": (Scores(lambda scores, keep: scores + (1 - KEPT) * -10000.0), "reaches 10000"),
    "filled in": (Scores(lambda scores, keep: scores.masked_fill(keep == 0, -100.0) + 1), FILLED),
    "state": (Counted(lambda scores, keep: scores), INPUT),
}
PLAIN: dict[str, Combined] = {
    "a bias": lambda scores, keep: scores + torch.arange(4.0),
    "other scores": lambda scores, keep: scores + scores.flip(-1),
    "a number": lambda scores, keep: scores + 10000.0,
}


def graph_of(module: nn.Module, *inputs: Tensor) -> Graph:
    return folded(torch.export.export(module, inputs).module(check_guards=False)).graph


def reasons(graph: Graph) -> list[str | None]:
    sums = [
        node
        for node in graph.nodes
        if called(node) in ("aten.add.Tensor", "aten.add_.Tensor") and node.users
    ]
    return [moderate_constants(Match((n,), tuple(n.all_input_nodes)), None) for n in sums]


@pytest.mark.parametrize("name", MASKED)
def test_a_sum_with_a_mask_has_a_reason(name: str) -> None:
    module, reason = MASKED[name]
    (found,) = reasons(graph_of(module, torch.ones(2, 8), KEPT))
    assert found is not None
    assert reason in found


@pytest.mark.parametrize("name", PLAIN)
def test_a_sum_of_scores_has_none(name: str) -> None:
    assert reasons(graph_of(Scores(PLAIN[name]), torch.ones(2, 8), KEPT)) == [None]


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * 2)


def test_a_mask_elsewhere_is_seen_through_sums() -> None:
    def masked(x: Tensor) -> Tensor:
        return x + ((x > 0) * -1e9 + x.relu()).view(2, 4)

    found = reasons(graph_of(Call(masked), torch.ones(2, 4)))
    assert all(each and FILLED in each for each in found)


def test_a_large_constant_elsewhere_is_a_value() -> None:
    assert reasons(graph_of(Call(lambda x: x + torch.arange(4) * 100.0), torch.ones(2, 4))) == [
        None
    ]


@pytest.mark.parametrize("length", [10, 40])
def test_finding_masks_visits_each_node_once(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def chain(x: Tensor) -> Tensor:
        for _ in range(length):
            x = x + x.relu()
        return x

    graph = graph_of(Call(chain), torch.ones(2, 4))
    visits = []
    monkeypatch.setattr(masks, "called", lambda node: visits.append(node) or called(node))
    assert reasons(graph) == [None] * length
    assert len(visits) <= 2 * len(graph.nodes)
