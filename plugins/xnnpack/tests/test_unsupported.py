"""Operators that ExecuTorch has no kernel for are named, and what is advised instead runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from cases_unsupported import IMAGE, REPLACED, Convolved, erfinv
from commands import failed
from torch import Tensor, nn
from torch._higher_order_ops import scan, while_loop

import qreg
from qreg.errors import UnsupportedOperatorError

ADVICE = ("compile_config", "to_edge", "Core ATen", "computes incorrectly", "Suspects")


@pytest.mark.parametrize("name", REPLACED)
def test_an_operator_without_a_kernel_is_named_with_what_runs_instead(name: str) -> None:
    original, instead = REPLACED[name]
    if name == "diagonal":  # runs: ExecuTorch copies it
        assert qreg.lower(Convolved(original).eval(), IMAGE).program
        return
    with pytest.raises(UnsupportedOperatorError, match=r"ExecuTorch has no kernel for") as raised:
        qreg.quantize(Convolved(original).eval(), IMAGE, calibration=[IMAGE])
    text = str(raised.value)
    assert f"Replace {name.split()[0]} with" in text
    assert "cases_unsupported.py:" in text
    assert not [each for each in ADVICE if each in text]
    result = qreg.quantize(Convolved(instead).eval(), IMAGE, calibration=[IMAGE])
    assert result.verification.to_converted[0].sqnr > 30


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.EmbeddingBag(9, 4), nn.Linear(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.rows(ids))


def test_an_operator_that_lowers_and_has_no_kernel_is_named_ahead_of_a_run() -> None:
    ids = torch.tensor([[1, 2, 8]])
    match = r"ExecuTorch has no kernel for aten\._embedding_bag\.default .*self\.rows\(ids\)"
    with pytest.raises(UnsupportedOperatorError, match=match) as raised:
        qreg.quantize(Bag(), ids, calibration=[ids])
    assert "Replace _embedding_bag with embedding" in str(raised.value)
    assert not [each for each in ADVICE if each in str(raised.value)]


class Repeated(Convolved):
    def forward(self, x: Tensor) -> Tensor:
        def body(y: Tensor) -> tuple[Tensor]:
            return (self.function(y),)

        return while_loop(lambda y: y.abs().sum() > 10, body, (self.conv(x),))[0]


class Scanned(Convolved):
    def forward(self, x: Tensor) -> Tensor:
        def body(carry: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            carry = torch.fmin(carry, value)
            return carry, carry.clone()

        y = self.conv(x)
        return scan(body, y[0].clone(), y)[1]


def test_an_operator_in_the_body_of_a_loop_is_named() -> None:
    model = Scanned(lambda y: y).eval()
    with pytest.raises(UnsupportedOperatorError, match=r"aten\.fmin.*in the body of scan"):
        qreg.quantize(model, IMAGE, calibration=[IMAGE])


def test_a_loop_that_has_no_kernel_is_named() -> None:
    model = Repeated(lambda y: y * 0.5).eval()
    for call in (qreg.lower, partial(qreg.quantize, calibration=[IMAGE])):
        with pytest.raises(UnsupportedOperatorError, match=r"no kernel for while_loop") as raised:
            call(model, IMAGE)
        assert "FunctionalTensor" not in str(raised.value)


def test_lowering_alone_names_it_too() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"aten\.erfinv\.default \(erfinv\)"):
        qreg.lower(Convolved(erfinv).eval(), IMAGE)


def test_the_command_line_names_it_and_writes_nothing(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Convolved(erfinv).eval(), (IMAGE,)), tmp_path / "net.pt2")
    torch.save([(IMAGE,)], tmp_path / "data.pt")
    message = failed("quantize", tmp_path / "net.pt2", "--calibration", tmp_path / "data.pt")
    assert "ExecuTorch has no kernel for aten.erfinv.default (erfinv)" in message
    assert "compute it outside of the model" in message.lower()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data.pt", "net.pt2"]
