"""Pins the projects that qreg writes for new plugins: installed, they pass the tests in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from qreg import scaffold
from qreg.errors import InputError
from qreg.scaffold import KINDS, new_plugin

NEEDS_XNNPACK = pytest.mark.skipif(
    find_spec("qreg_xnnpack") is None, reason="adds to the XNNPACK backend, which is not installed"
)
EACH_KIND = [pytest.param(kind, marks=[] if kind == "backend" else NEEDS_XNNPACK) for kind in KINDS]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project of each kind that goes with what is installed."""
    folder = tmp_path_factory.mktemp("written")
    for kind in KINDS if find_spec("qreg_xnnpack") else ("backend",):
        new_plugin(f"my-{kind}", kind, folder)
    return folder


@pytest.fixture(scope="module")
def environment(written: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a process that imports the projects, which are built without the network."""
    site = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
    command = [sys.executable, "-m", "pip", "install", *options, *map(str, written.iterdir())]
    subprocess.run(command, check=True)
    return {**os.environ, "PYTHONPATH": str(site)}


@pytest.fixture(scope="module")
def ran(written: Path, environment: dict[str, str]) -> tuple[dict[str, set[str]], str]:
    """How the tests of each file ended, in one process for all projects, and its output."""
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider"]
    options: dict[str, Any] = {"cwd": written, "env": environment, "text": True, "check": False}
    output = subprocess.run([*command, "."], capture_output=True, **options).stdout
    ended = re.findall(r"^(PASSED|FAILED|ERROR) \S*/(test_\w+)\.py", output, re.MULTILINE)
    return {name: {end for end, each in ended if each == name} for _, name in ended}, output


@pytest.mark.parametrize("kind", EACH_KIND)
def test_a_written_project_installs_and_passes_its_tests(
    kind: scaffold.Kind, ran: tuple[dict[str, set[str]], str]
) -> None:
    ended, output = ran
    assert ended.get(f"test_my_{kind}") == {"PASSED"}, output


def test_an_installed_project_is_listed(written: Path, environment: dict[str, str]) -> None:
    listed = subprocess.run(
        [sys.executable, "-c", "from qreg.cli.main import main; main(['list', '--json'])"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = {
        row["distribution"]: (row["plugin"], row["version"], row["broken"])
        for row in json.loads(listed.stdout)
    }
    names = [each.name for each in written.iterdir()]
    assert names
    for name in names:
        plugin = name.removeprefix("qreg-").replace("-", "_")
        assert found[name] == (plugin, "0.1.0", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_has_its_files_and_nothing_else(kind: scaffold.Kind, tmp_path: Path) -> None:
    project = new_plugin("my-ops", kind, tmp_path)
    files = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    sources = {"qreg_my_ops.py", "tests/test_my_ops.py"}
    assert files == {".gitignore", "README.md", "pyproject.toml", *sources}
    assert [path.name for path in tmp_path.iterdir()] == ["qreg-my-ops"]
    for source in sources:
        compile((project / source).read_text(encoding="utf-8"), source, "exec")
    assert not any("{{" in (project / name).read_text(encoding="utf-8") for name in files)


def test_it_goes_with_this_version_of_qreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for ours, wanted in {"0.3.1": "qreg-core>=0.3,<0.4", "2.5.0": "qreg-core>=2.5,<3"}.items():
        monkeypatch.setattr(scaffold, "version", lambda _, ours=ours: ours)
        project = new_plugin(f"for-{ours[0]}", "backend", tmp_path)
        assert f'"{wanted}"' in (project / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["", "My-Ops", "my_ops", "1ops", "-ops", "ops-", "my--ops", "my ops", "../ops", "a\nb"]
)
def test_a_name_that_no_distribution_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not valid"):
        new_plugin(name, output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_with_the_prefix_is_said_without_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Pass 'my-ops'"):
        new_plugin("qreg-my-ops", output=tmp_path)


def test_an_unknown_kind_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="annotator, config, backend, algorithm"):
        new_plugin("my-ops", "lowering", tmp_path)  # type: ignore[arg-type]


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "qreg-my-ops").mkdir()
    with pytest.raises(InputError, match="exists already"):
        new_plugin("my-ops", output=tmp_path)
    assert not list((tmp_path / "qreg-my-ops").iterdir())


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        new_plugin("my-ops", output=tmp_path / "nowhere")


def test_of_a_project_that_cannot_be_finished_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def full(path: Path, text: str, **options: str) -> int:
        if path.suffix == ".py":
            raise OSError(28, "No space left on device")
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match="No space left"):
        new_plugin("my-ops", output=tmp_path)
    assert not list(tmp_path.iterdir())
