"""The guide to deployment: its tested code is compiled and executed, and gives what qreg gives."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"


def blocks(language: str, section: str = "") -> list[str]:
    """The code of a language under one heading of the page, or before the first heading."""
    parts = re.split(r"^## (.*)\n", f"## \n{PAGE.read_text(encoding='utf-8')}", flags=re.MULTILINE)
    (text,) = (body for name, body in zip(parts[1::2], parts[2::2], strict=True) if name == section)
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page after its Python code, and the folder that it was run in."""
    namespace: dict[str, Any] = {"folder": tmp_path_factory.mktemp("deployed")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(namespace["folder"])
        for block in (*blocks("python"), *blocks("python", "Python")):
            exec(compile(block, str(PAGE), "exec"), namespace)
    return namespace


def test_every_runtime_gives_what_the_result_gives(page: dict[str, Any]) -> None:
    for backend, name in (
        ("xnnpack", "of_executorch"),
        ("onnxruntime", "of_onnxruntime"),
        ("openvino", "of_openvino"),
    ):
        wanted = page["scores"][backend].numpy()
        numpy.testing.assert_allclose(numpy.asarray(page[name]), wanted, rtol=0, atol=1e-6)


def test_openvinos_program_runs_in_cpp(page: dict[str, Any]) -> None:
    folder, (code,), (build,) = (
        page["folder"],
        *(blocks(language, "OpenVINO in C++") for language in ("cpp", "sh")),
    )
    (folder / "main.cpp").write_text(code, encoding="utf-8")
    python = str(Path(sys.executable).parent)
    ran = subprocess.run(
        ["bash", "-euc", f'PATH="{python}:$PATH"\n{build}'],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    scores = page["scores"]["openvino"].flatten().numpy()
    numpy.testing.assert_allclose([float(each) for each in ran.stdout.split()], scores, atol=1e-5)
