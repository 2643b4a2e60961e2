"""What a shell completes: commands, options, and the names that plugins supply."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from qreg.cli.main import main


def completed(*words: str) -> list[str]:
    found = ShellComplete(main, {}, "qreg", "_QREG_COMPLETE").get_completions(
        list(words[:-1]), words[-1]
    )
    return [each.value for each in found]


def test_a_shell_completes_commands_and_options() -> None:
    for words, wanted in (("qreg quan", "quantize"), ("qreg quantize --config-f", "--config-for")):
        environment = {"_QREG_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "1"}
        environment["COMP_CWORD"] = str(words.count(" "))
        ran = subprocess.run(
            [sys.executable, "-c", "from qreg.cli.main import main; main(prog_name='qreg')"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        assert ran.stdout == f"plain,{wanted}\n"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("quantize", "--backend", "to"), "toy"),
        (("ops", "t"), "toy"),
        (("compare", "--backends", "toy,t"), "toy,toy"),
        (("tune", "--backends", "t"), "toy"),
        (("quantize", "--backend", "toy", "--config", "dyn"), "dynamic"),
        (("explain", "--backend", "toy", "--config", "def"), "default"),
        (("tune", "--algorithms", "gptq,bias"), "gptq,bias_correction"),
        (("quantize", "--algorithms", "au"), "auto"),
    ],
)
def test_names_that_plugins_supply_are_completed(words: tuple[str, ...], wanted: str) -> None:
    assert wanted in completed(*words)


def test_nothing_is_completed_for_an_unknown_backend() -> None:
    assert completed("quantize", "--backend", "no_such", "--config", "int8") == []


@pytest.mark.filterwarnings("error")
def test_a_broken_plugin_is_left_out_in_silence(distribution: Callable[..., Path]) -> None:
    distribution("qreg-gone", "raise RuntimeError('gone')")
    assert "toy" in completed("ops", "t")
