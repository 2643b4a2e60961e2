"""A program is lowered once for what it depends on, and anew if any of that differs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from quantizing import TwoLinears
from torch import nn

import qreg
from qreg import Registry
from qreg.plugins import sources
from qreg.plugins.settings import from_environment

TOY = Path(__file__).parents[1] / "toy.py"
REPRODUCIBLE = TOY.read_text(encoding="utf-8").replace(
    "    quantized_io=True,", "    quantized_io=True,\n    reproducible=True,"
)
X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
ELSEWHERE = """
import torch
import qreg
from quantizing import TwoLinears
from qreg import Registry
from test_cached import X, quantized
Registry.call_lower = None
print(quantized(Registry(load=["toy"])).counts["int8"])
"""


@pytest.fixture
def lowerings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each lowering, by the backend."""
    noted: list[str] = []
    lower = Registry.call_lower

    def noting(self: Registry, backend: str, *given: Any) -> Any:
        noted.append(backend)
        return lower(self, backend, *given)

    monkeypatch.setattr(Registry, "call_lower", noting)
    return noted


@pytest.fixture
def installed(distribution: Callable[..., Path]) -> Callable[[str], None]:
    """Installs a backend whose programs may be kept."""

    def install(source: str = REPRODUCIBLE) -> None:
        sources.hash_of_code.cache_clear()
        distribution("qreg-toy", source)

    return install


def quantized(registry: Registry, model: nn.Module | None = None, x: Any = X) -> qreg.Result:
    torch.manual_seed(0)
    model = model or TwoLinears()
    options: dict[str, Any] = {"backend": "toy", "registry": registry, "progress": False}
    return qreg.quantize(model.eval(), x, calibration=[x], **options)


def cached(folder: Path, **given: Any) -> Registry:
    return Registry(load=["toy"], cache=folder, **given)


def test_a_second_run_lowers_nothing(
    installed: Callable[..., None], lowerings: list[str], tmp_path: Path
) -> None:
    installed()
    options: dict[str, Any] = {"backend": "toy", "registry": cached(tmp_path / "programs")}
    reports = []
    for _ in range(2):
        torch.manual_seed(0)
        model = TwoLinears().eval()
        reports.append(qreg.explain(model, X, calibration=[X], timing=True, **options))
        assert lowerings == ["toy", "toy"]  # the program, and the float one
    first, second = reports
    assert first.operators == second.operators
    assert second.timing is not None
    assert (first.delegates, first.verification) == (second.delegates, second.verification)


def test_another_process_lowers_nothing(installed: Callable[..., None], tmp_path: Path) -> None:
    installed()
    wanted = quantized(cached(tmp_path / "programs")).counts["int8"]
    paths = [tmp_path / "qreg-toy-1.0", *map(TOY.parent.joinpath, (".", "pipeline")), *sys.path]
    variables = {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    variables["QREG_CACHE"] = str(tmp_path / "programs")
    ran = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.strip() == str(wanted), ran.stderr


class Wider(TwoLinears):
    """Other weights in the same graph."""

    def __init__(self) -> None:
        super().__init__()
        for each in self.parameters():
            each.data += 1


def test_what_differs_is_lowered_anew(
    installed: Callable[..., None], lowerings: list[str], tmp_path: Path
) -> None:
    installed()
    registry = cached(tmp_path / "programs")
    for count, (model, x) in enumerate([(TwoLinears, X), (Wider, X), (TwoLinears, X[:2])], 1):
        for _ in range(2):
            torch.manual_seed(0)
            quantized(registry, model(), x)
            assert len(lowerings) == count


def test_a_plugin_that_was_edited_lowers_anew(
    installed: Callable[..., None], lowerings: list[str], tmp_path: Path
) -> None:
    installed()
    quantized(cached(tmp_path / "programs"))
    (tmp_path / "qreg-toy-1.0" / "qreg_toy.py").write_text(f"{REPRODUCIBLE}# edited\n")
    sources.hash_of_code.cache_clear()
    quantized(cached(tmp_path / "programs"))
    assert lowerings == ["toy", "toy"]


def test_a_damaged_program_is_lowered_anew(
    installed: Callable[..., None], lowerings: list[str], tmp_path: Path
) -> None:
    installed()
    wanted = quantized(cached(tmp_path / "programs")).run(X)
    (path,) = (tmp_path / "programs").iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    torch.testing.assert_close(quantized(cached(tmp_path / "programs")).run(X), wanted)
    assert len(lowerings) == 2


def test_nothing_is_kept_of_what_may_differ_unnoticed(
    installed: Callable[..., None], toy: Any, lowerings: list[str], tmp_path: Path
) -> None:
    installed(TOY.read_text(encoding="utf-8"))  # it does not say that programs are reproducible
    given = Registry({"toy": toy.variant("toy").plugins[0].instance}, entry_points=False)
    for registry in (cached(tmp_path / "programs"), given):
        quantized(registry)
    assert lowerings == ["toy", "toy"]
    assert not (tmp_path / "programs").exists()


def test_an_empty_folder_is_no_cache(
    installed: Callable[..., None], lowerings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed()
    monkeypatch.setenv("QREG_CACHE", "")
    for _ in range(2):
        quantized(Registry(load=["toy"]))
    assert lowerings == ["toy", "toy"]


def test_the_folder_is_that_of_the_environment_or_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QREG_CACHE", "given")
    assert from_environment().cache == "given"
    assert from_environment(cache="").cache == ""
    monkeypatch.delenv("QREG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert from_environment().cache == str(tmp_path / "qreg")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert from_environment().cache == str(tmp_path / ".cache" / "qreg")
