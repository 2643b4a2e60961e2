"""A model of keyword inputs and nested outputs, for the test of every backend that runs."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import qreg
from qreg.verification.metrics import compare_all

Pair = namedtuple("Pair", ["first", "second"])
FLOOR = 20.0  # dB to float; an input or an output in another place is below 5


class Structured(nn.Module):
    """``repeated`` returns one tensor twice."""

    def __init__(self, *, repeated: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.parts = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.repeated = repeated

    def forward(self, x: Tensor, *, left: Tensor, right: Tensor) -> dict[str, Any]:
        first, second, third = self.parts
        y = first(x).relu() - second(left)
        z = third(y - right)
        same = z if self.repeated else z.relu()
        return {"scores": z, "aux": None, "pair": Pair([y], 3), "same": same}


def batches() -> list[dict[str, Tensor]]:
    torch.manual_seed(1)
    names = ("right", "x", "left")  # in another order than in the model
    return [{name: torch.randn(4, 16) for name in names} for _ in range(8)]


def check(backend: str, *, repeated: bool = True) -> None:
    """Quantize by name with arrays and labels, run, and compare with the float model."""
    model = Structured(repeated=repeated).eval()
    labelled = [
        ({k: v.numpy() for k, v in each.items()}, index) for index, each in enumerate(batches())
    ]
    result = qreg.quantize(
        model, batches()[0], backend=backend, calibration=labelled, transform=lambda pair: pair[0]
    )
    for batch in batches()[:3]:
        got, structure = pytree.tree_flatten(result.run(**batch))
        wanted, of_model = pytree.tree_flatten(model(**batch))
        assert structure == of_model
        assert [v for v in got if not isinstance(v, Tensor)] == [None, 3]
        tensors = [
            [v.detach() for v in leaves if isinstance(v, Tensor)] for leaves in (got, wanted)
        ]
        assert min(each.sqnr for each in compare_all(*([each] for each in tensors))) > FLOOR
