"""Pins what an import costs: naming and listing plugins never imports torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import qreg

TOY = Path(__file__).with_name("toy.py")

SHOW = "import sys; print(*({'torch', 'torchao', 'executorch'} & set(sys.modules)), 'end', sep=',')"


def heavy_imports(code: str, *folders: Path) -> str:
    """What of torch and its kin a fresh interpreter has imported after ``code``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{SHOW}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.splitlines()[-1].removesuffix("end")


def test_the_probe_sees_torch() -> None:
    assert heavy_imports("import torch") == "torch,"


@pytest.mark.parametrize("module", ["qreg", "qreg.cli", "qreg.errors", "qreg.patterns"])
def test_importing_is_light(module: str) -> None:
    assert heavy_imports(f"import {module}") == ""


def test_making_a_registry_and_listing_its_plugins_is_light() -> None:
    assert heavy_imports("import qreg; qreg.Registry().backends()") == ""


@pytest.mark.parametrize("command", [["list"], ["ops", "toy"], ["ops", "toy", "--json"]])
def test_the_commands_that_list_are_light(
    command: list[str], distribution: Callable[..., Path]
) -> None:
    folder = distribution("qreg-toy", TOY.read_text(encoding="utf-8"))
    code = f"from qreg.cli import main; main({command!r}, standalone_mode=False)"
    assert heavy_imports(code, folder) == ""


@pytest.mark.parametrize("name", qreg.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(qreg, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="get_quantiser"):
        _ = qreg.get_quantiser
