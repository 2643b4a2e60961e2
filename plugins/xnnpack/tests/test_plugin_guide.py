"""The plugins in the guide work as they stand, the shortest one as an installed distribution."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import qreg
from qreg.quantizer.annotation_pass import annotate_with
from qreg_xnnpack import get_symmetric_quantization_config
from qreg_xnnpack.plugin import PLUGIN

GUIDE = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text(encoding="utf-8")

USE = """
import json, torch, qreg
torch.manual_seed(0)
class Moved(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 4)
    def forward(self, x):
        return self.linear(x).movedim(0, 1)
x = torch.randn(3, 8)
result = qreg.quantize(Moved(), x, calibration=[x], progress=False)
(decision,) = [each for each in result.decisions if "movedim" in each.operator]
placement = result.audit.placements[decision.node]
print(json.dumps({
    "by": [decision.status, decision.annotator, decision.distribution],
    "program": [placement.place, placement.operator, placement.types],
    "defects": len(result.audit.defects),
    "sqnr": result.verification.to_converted[0].sqnr,
}))
"""
TEST = """
import sys, pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[1]]))
"""


def blocks(section: str, language: str = "python") -> list[str]:
    """The code in a section of the guide."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", GUIDE, re.DOTALL | re.MULTILINE)
    return re.findall(rf"^```{language}\n(.*?)```", text, re.DOTALL | re.MULTILINE)


def documented(section: str) -> Any:
    """A section of the guide as a module."""
    module = types.ModuleType("documented")
    for block in blocks(section):
        exec(compile(block, f"docs/plugins.md, {section}", "exec"), vars(module))
    return module


def with_stock(module: object) -> qreg.Registry:
    return qreg.Registry({"documented": module, "xnnpack": PLUGIN}, entry_points=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the shortest plugin, without the network."""
    project, site = tmp_path_factory.mktemp("qreg-movedim"), tmp_path_factory.mktemp("site")
    (toml,), (code,) = blocks("The shortest plugin", "toml"), blocks("The shortest plugin")
    (project / "pyproject.toml").write_text(toml, encoding="utf-8")
    (project / "qreg_movedim.py").write_text(code, encoding="utf-8")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(project)], check=True)
    return site


@pytest.fixture(scope="module")
def used(site: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A process that uses the shortest plugin, and then runs its tests in the guide."""
    (tests,) = blocks("Testing a plugin")
    path = tmp_path_factory.mktemp("tests") / "test_movedim.py"
    path.write_text(tests, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-c", f"{USE}{TEST}", str(path)],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_shortest_plugin_is_as_short_as_promised() -> None:
    (toml,), (code,) = blocks("The shortest plugin", "toml"), blocks("The shortest plugin")
    assert len(toml.splitlines()) <= 8
    assert len(code.splitlines()) <= 12


def test_the_shortest_plugin_runs_in_int8_as_an_installed_distribution(
    used: subprocess.CompletedProcess[str],
) -> None:
    (line,) = re.findall(r"^{.*}$", used.stdout, re.MULTILINE) or [f"no result: {used.stderr}"]
    found = json.loads(line)
    assert found["by"] == ["shared", "movedim", "qreg-movedim"]
    assert found["program"] == ["int8", "XNNStaticTranspose", "qint8 -> qint8"]
    assert found["defects"] == 0
    assert found["sqnr"] > 40


def test_its_tests_in_the_guide_pass(used: subprocess.CompletedProcess[str]) -> None:
    assert used.returncode == 0, (used.stdout, used.stderr)
    assert re.search(r"\d+ passed", used.stdout)


class Conv1D(nn.Module):
    """GPT-2's linear layer: a weight of shape (in, out)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 8))
        self.bias = nn.Parameter(torch.randn(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x, self.weight)


def test_the_annotator_in_depth_runs_in_int8() -> None:
    torch.manual_seed(0)
    x, registry = torch.randn(2, 4), with_stock(documented("An annotator in depth"))
    result = qreg.quantize(Conv1D(), (x,), calibration=[(x,)], registry=registry)
    assert [decision.annotator for decision in result.decisions] == ["addmm"]
    assert result.audit.defects == ()
    assert result.verification.to_converted[0].sqnr > 40


def test_a_pattern_from_a_function_is_found_as_the_guide_says() -> None:
    annotator = documented("An annotator in depth").annotator
    for bias in (True, False):
        module, x = nn.Sequential(nn.Linear(4, 2, bias=bias), nn.ReLU()), torch.randn(1, 4)
        graph_module = torch.export.export(module.eval(), (x,)).module()
        config = get_symmetric_quantization_config()
        (partition,) = annotate_with((annotator,), graph_module, config)
        constants = ["_0_weight", "_0_bias"] if bias else ["_0_weight"]
        assert [node.name for node in partition] == ["linear", "relu", *constants]


def test_the_config_is_one_of_the_backends_and_runs() -> None:
    torch.manual_seed(0)
    x, registry = torch.randn(2, 8), with_stock(documented("A config"))
    model = nn.Linear(8, 4)
    result = qreg.quantize(model, x, calibration=[x], config="int7_static", registry=registry)
    assert [decision.config for decision in result.decisions] == ["int7_static"]
    assert result.audit.defects == ()
    (weight,) = (each for each in result.converted.buffers() if each.shape == model.weight.shape)
    assert 60 < weight.abs().max() <= 63


def test_the_backend_lowers_runs_and_is_audited() -> None:
    torch.manual_seed(0)
    registry = qreg.Registry({"documented": documented("A backend")}, entry_points=False)
    model, x = nn.Sequential(nn.Linear(8, 4), nn.Tanh()), torch.randn(4, 8)
    result = qreg.quantize(model, x, backend="torch", calibration=[x], registry=registry)
    places = [placement.place for placement in result.audit.placements.values()]
    assert places == ["int8", "float"]
    assert result.audit.defects == ()
    assert result.verification.to_float[0].sqnr > 25


def test_the_wrapped_quantizer_annotates_and_its_program_runs() -> None:
    torch.manual_seed(0)
    registry = with_stock(documented("A backend that wraps a quantizer"))
    x = torch.randn(4, 8)
    result = qreg.quantize(
        nn.Linear(8, 4), x, backend="wrapped", calibration=[x], registry=registry
    )
    assert [decision.annotator for decision in result.decisions] == ["XNNPACKQuantizer"]
    assert result.audit.defects == ()
    assert result.verification.to_converted[0].sqnr > 35


def test_the_order_is_as_the_guide_says() -> None:
    careful = documented("The order of annotators").careful

    class Careful:
        @qreg.hookimpl
        def qreg_annotators(self, backend: str) -> list[qreg.Annotator]:
            return [careful] if backend == "xnnpack" else []

    names = [each.value.name for each in with_stock(Careful()).annotators("xnnpack")]
    assert names.index("careful_linear") == names.index("linear_relu") - 1
    assert "linear" not in names
