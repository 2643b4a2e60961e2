"""A trace records the lines of the model that torch itself would record."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import proxy
from torch.utils._traceback import CapturedTraceback

from qreg.graph.forward_frames import STACK, frames_of_forward


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.helped(x) + 1

    def helped(self, x: Tensor) -> Tensor:
        return x.relu()


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * 2


def stacks() -> dict[str, Any]:
    exported = torch.export.export(Outer(), (torch.randn(2, 3),))
    decomposed = exported.run_decompositions()
    return {
        f"{number} {node.name}": node.stack_trace
        for number, program in enumerate((exported, decomposed))
        for node in program.graph.nodes
    }


def test_the_frames_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Counted(CapturedTraceback):
        @staticmethod
        def extract(**options: Any) -> Any:
            calls.append(options)
            return CapturedTraceback.extract(**options)

    with monkeypatch.context() as patch:
        patch.setattr(proxy, STACK, Counted)
        wanted = stacks()
    assert len(calls) > len(wanted) / 2  # torch still describes the stack of most nodes
    before = vars(proxy)[STACK]
    with frames_of_forward():
        assert stacks() == wanted
    assert vars(proxy)[STACK] is before
    assert "return x.relu()" not in wanted["0 relu"]  # forward functions alone
    assert wanted["0 relu"].count("in forward") == 2
