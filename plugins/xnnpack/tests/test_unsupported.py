"""Operators that ExecuTorch has no kernel for are named, and what is advised instead runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases_unsupported import IMAGE, REPLACED, Convolved, erfinv
from commands import failed

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
