"""Pins what commands print on standard error: the log, its levels, and nothing of others."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
from commands import run, succeeded

from qreg.cli.log import logged
from qreg.utils.logging import LOG
from qreg.utils.progress import Stages

SOURCE = """
import logging
import warnings
import torch
from quantizing import Net

def made():
    warnings.warn("old in other", FutureWarning)
    logging.getLogger("other").warning("chatter")
    logging.getLogger("other").error("it burns")
    return Net(), (torch.zeros(8, 4),)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / f"noisy_{abs(hash(tmp_path))}.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def stderr(code: Path, data: Path, *options: str) -> str:
    command = ("quantize", f"{code}:made", "--backend", "toy", "--calibration", data)
    result = run(*options, *command, "-o", code.with_suffix(".toy"))
    assert result.exit_code == 0, result.output
    assert "3 of 3 operators in int8" in result.stdout
    return result.stderr


def test_other_libraries_are_not_heard_but_for_errors(code: Path, data: Path) -> None:
    found = stderr(code, data)
    assert "other: it burns" in found
    assert "chatter" not in found
    assert "old in other" not in found
    assert "calibrate after 3 of 3: " in found


def test_verbose_has_what_other_libraries_report(code: Path, data: Path) -> None:
    found = stderr(code, data, "-v")
    assert "other: chatter" in found
    assert f"FutureWarning: old in other ({code}:" in found


def test_quiet_has_errors_alone(code: Path, data: Path) -> None:
    assert stderr(code, data, "-q") == "other: it burns\n"


def test_the_log_is_as_before_after_a_command() -> None:
    before = LOG.level, list(LOG.handlers), list(logging.getLogger().handlers)
    show = warnings.showwarning
    succeeded("-v", "list")
    assert (LOG.level, LOG.handlers, logging.getLogger().handlers) == before
    assert warnings.showwarning is show


def test_a_handler_of_the_logger_gets_the_stages(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with logged(logging.INFO), Stages() as stages, stages.stage("export"):
        pass
    assert capsys.readouterr().err.startswith("export: 0.")
    assert [each.name for each in caplog.records] == ["qreg"]
    with logged(logging.ERROR), Stages() as stages, stages.stage("export"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [("-h",), ("quantize", "-h"), ("list", "--help")])
def test_help_is_printed(arguments: tuple[str, ...]) -> None:
    assert succeeded(*arguments).startswith("Usage:")


@pytest.mark.parametrize(
    ("arguments", "code"), [(("list",), 0), (("ops", "tou"), 1), (("list", "--no-such"), 2)]
)
def test_exit_codes_are_as_documented(arguments: tuple[str, ...], code: int) -> None:
    assert run(*arguments).exit_code == code
