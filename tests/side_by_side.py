"""The models of a table side by side: lowering some of them as one takes half the time.

Each has inputs, outputs, decisions and places of its own. Where the models of a program fail
together, each is quantized alone, so that the error is that of the model that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from attrs import field, frozen
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import qreg
from qreg.analysis.audit import Placement, Split
from qreg.verification.metrics import OutputComparison

Shape = tuple[int, ...]
Case = tuple[nn.Module, Sequence[Shape]]
Quantize = Callable[..., qreg.Result]


class SideBySide(nn.Module):
    """Models as one, which takes the inputs of all and returns a list of their outputs."""

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__()
        self.models = nn.ModuleList(model for model, _ in cases)
        self.shapes = [shapes for _, shapes in cases]

    def forward(self, *inputs: Tensor) -> list[Any]:
        left = iter(inputs)
        pairs = zip(self.models, self.shapes, strict=True)
        return [model(*islice(left, len(shapes))) for model, shapes in pairs]

    def outputs(self) -> list[int]:
        """The number of outputs of each model."""
        zeros = [torch.zeros(shape) for shapes in self.shapes for shape in shapes]
        with torch.no_grad():
            return [len(tree_leaves(each)) for each in self(*zeros)]


@frozen
class Share:
    """What a result tells of one of its models; ``result`` is that of the whole program."""

    result: qreg.Result = field(repr=False)
    decisions: tuple[qreg.Decision, ...]
    to_converted: tuple[OutputComparison, ...]
    to_float: tuple[OutputComparison, ...]

    @property
    def nodes(self) -> set[str]:
        return {each.node for each in self.decisions}

    @property
    def placements(self) -> dict[str, Placement]:
        assert self.result.audit is not None
        placements = self.result.audit.placements
        return {node: placements[node] for node in self.nodes & placements.keys()}

    @property
    def defects(self) -> list[qreg.Decision]:
        assert self.result.audit is not None
        return [each for each in self.result.audit.defects if each.node in self.nodes]

    @property
    def splits(self) -> list[Split]:
        assert self.result.audit is not None
        return [each for each in self.result.audit.splits if self.nodes & {*each.operators}]


def shares(cases: Sequence[Case], quantize: Quantize) -> list[Share]:
    """Quantize models as one; ``quantize`` takes the model and the shapes of its inputs."""
    model = SideBySide(cases).eval()
    result = quantize(model, *(shape for shapes in model.shapes for shape in shapes))
    assert result.verification is not None
    near, far = iter(result.verification.to_converted), iter(result.verification.to_float)
    found = [
        Share(
            result,
            tuple(each for each in result.decisions if f"{each.module}.".startswith(f"{name}.")),
            tuple(islice(near, count)),
            tuple(islice(far, count)),
        )
        for name, count in zip(_names(cases), model.outputs(), strict=True)
    ]
    assert sum(len(each.decisions) for each in found) == len(result.decisions)
    assert [*near, *far] == []
    return found


def _names(cases: Sequence[Case]) -> list[str]:
    return [f"models.{number}" for number in range(len(cases))]


class Table:
    """The models of a table by name, ``at_once`` of them in a program."""

    def __init__(self, cases: Mapping[str, Case], quantize: Quantize, at_once: int = 12) -> None:
        self.cases, self.quantize, self.at_once = cases, quantize, at_once
        self.found: dict[str, Share] = {}

    def __getitem__(self, name: str) -> Share:
        if name not in self.found:
            names = list(self.cases)
            start = names.index(name) // self.at_once * self.at_once
            self._quantize(names[start : start + self.at_once], name)
        return self.found[name]

    def _quantize(self, together: Sequence[str], wanted: str) -> None:
        try:
            found = shares([self.cases[name] for name in together], self.quantize)
        except Exception:  # of any library: one of them does not lower or run
            together = [wanted]
            found = shares([self.cases[wanted]], self.quantize)
        self.found.update(zip(together, found, strict=True))
