"""What the tests share: the toy backend, real distributions, and graphs of small modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from loading import module_of

from qreg import Registry

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule

TOY = Path(__file__).with_name("toy.py")

# A busy machine generates and runs examples slowly, which is not an error of the code. Each run has
# the same examples.
settings.register_profile(
    "any speed", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any speed")


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The toy backend's plugin module."""
    return module_of(TOY, "qreg_toy")


@pytest.fixture(scope="session")
def registry(toy: ModuleType) -> Registry:
    """The toy backend and nothing else, whatever is installed."""
    return Registry({"toy": toy}, entry_points=False)


@pytest.fixture(scope="session")
def capture() -> Callable[..., GraphModule]:
    """Exports a module, as a graph that can be annotated."""
    import torch

    def export(module: torch.nn.Module, *inputs: torch.Tensor, strict: bool = False) -> GraphModule:
        program = torch.export.export(module.eval(), inputs, strict=strict)
        return program.module(check_guards=False)

    return export


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Installs a distribution of one module, first on ``sys.path``, for the time of a test."""
    before = set(sys.modules)

    def install(
        name: str,
        source: str,
        *,
        module: str = "",
        entry_points: str | None = None,
        version: str = "1.0",
    ) -> Path:
        module = module or name.replace("-", "_")
        folder = tmp_path / f"{name}-{version}"
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        points = entry_points or f"[qreg]\n{name.removeprefix('qreg-')} = {module}\n"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        (info / "entry_points.txt").write_text(points, encoding="utf-8")
        (folder / f"{module}.py").write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(folder)
        return folder

    yield install
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
