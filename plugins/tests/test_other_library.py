"""Pins that backends say so where another library has the import name of the host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["arm", "onnxruntime", "openvino", "x86_inductor", "xnnpack"])
def test_a_backend_does_not_import_another_library_of_that_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "qreg").mkdir()
    (tmp_path / "qreg" / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), str(SOURCES / name / "src")])
    ran = subprocess.run(
        [sys.executable, "-c", f"import qreg_{name}.plugin"],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "ImportError: qreg is another library of that name (expected qreg-core)" in ran.stderr
