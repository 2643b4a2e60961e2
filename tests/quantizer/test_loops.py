"""The bodies of loops: their operators are decided on one by one, and the reason is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan, while_loop

import qreg
from qreg import Registry
from qreg.errors import NothingQuantizedError

ROWS = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
BODY = "a loop: each operator of its body has a separate decision"


class Loop(nn.Module):
    """A loop with a function of a linear layer for its body, and nothing around it."""

    def __init__(self, flow: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.flow, self.linear = flow, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.flow(self.linear, x)


def scanned(linear: nn.Module, x: Tensor) -> Tensor:
    return scan(lambda carry, row: (carry + 1, linear(row)), torch.zeros(4), x)[1]


def repeated(linear: nn.Module, x: Tensor) -> Tensor:
    return while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, linear(y)), (torch.tensor(0), x))[1]


def without_linear(linear: nn.Module, x: Tensor) -> Tensor:
    return while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y.sin()), (torch.tensor(0), x))[1]


@pytest.mark.parametrize("flow", [scanned, repeated], ids=["scan", "while_loop"])
def test_a_linear_in_a_body_alone_is_decided_on(
    flow: Callable[[nn.Module, Tensor], Tensor], registry: Registry
) -> None:
    report = qreg.explain(Loop(flow), (ROWS,), backend="toy", registry=registry, progress=False)
    found = {each.operator: (each.status, each.name) for each in report.operators}
    status, name = found["aten.linear.default"]
    assert status == "annotated"
    assert name.endswith(".linear")  # the name of the body, and that of the operator in it
    loops = [each.reason for each in report.operators if "higher_order" in each.operator]
    assert loops in ([], [BODY])


def test_a_loop_without_anything_to_quantize_says_so_for_its_body(registry: Registry) -> None:
    with pytest.raises(NothingQuantizedError, match=r"toy has no annotator for aten\.sin\.default"):
        qreg.quantize(
            Loop(without_linear),
            (ROWS,),
            backend="toy",
            calibration=[(ROWS,)],
            registry=registry,
            progress=False,
        )
