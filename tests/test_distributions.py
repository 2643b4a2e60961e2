"""Pins what an index shows of our distributions, and that no name of another library is in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomlkit
from packaging.requirements import Requirement

import qreg
from qreg import identity
from qreg.errors import InstallationError

ROOT = Path(__file__).parents[1]
PUBLISHED = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
PROJECTS = [*PUBLISHED, *sorted(ROOT.glob("examples/*/pyproject.toml"))]


def project(path: Path) -> Any:
    return tomlkit.parse(path.read_text(encoding="utf-8"))["project"]


def required(path: Path) -> Iterator[str]:
    """The names of all distributions that one requires, also for its extras."""
    extras = project(path).get("optional-dependencies", {}).values()
    lines = [*project(path).get("dependencies", ()), *(each for extra in extras for each in extra)]
    return (Requirement(each).name for each in lines)


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_what_begins_with_our_name_is_required_by_the_name_of_a_distribution_of_ours(
    path: Path,
) -> None:
    ours = {project(each)["name"] for each in PUBLISHED}
    assert {name for name in required(path) if name.startswith("qreg")} <= ours
    assert "qreg" not in ours


def test_one_distribution_requires_all_that_are_published() -> None:
    everything = ROOT / "plugins" / "all" / "pyproject.toml"
    others = {project(each)["name"] for each in PUBLISHED if each != everything}
    assert set(required(everything)) == others


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_an_index_has_what_it_shows(path: Path) -> None:
    found = project(path)
    assert found["authors"] == [{"name": "The qreg developers"}]
    assert "quantization" in found["keywords"]
    assert "Programming Language :: Python :: 3.13" in found["classifiers"]
    assert found["version"] == qreg.__version__
    assert len(found["description"]) < 100


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_the_page_on_an_index_has_no_link_into_the_repository(path: Path) -> None:
    text = (path.parent / project(path)["readme"]).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]*)\)|(?:href|src)=\"([^\"]*)\"", text)
    assert all(either.startswith("https://") for pair in targets for either in pair if either)


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*/README.md")]
PAGES += ROOT.glob("qreg/scaffold/templates/*")


@pytest.mark.parametrize("page", [each for each in PAGES if each.is_file()], ids=lambda p: p.name)
def test_no_command_installs_the_other_library(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("Do not run `pip install qreg`", "")
    assert not re.findall(r"pip install [^`\n]*(?<![\w-])qreg(?![\w-])", text)


def with_files_of(folder: Path, init: str) -> Path:
    """Make a folder in which the files of this library lie, with another ``__init__.py``."""
    package = folder / "qreg"
    package.mkdir()
    for each in Path(qreg.__file__).parent.iterdir():
        if each.name not in ("__init__.py", "__pycache__"):
            (package / each.name).symlink_to(each)
    (package / "__init__.py").write_text(init, encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "QREG_LOAD_PLUGINS": ""}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


def test_commands_say_that_another_library_is_installed_over_this_one(tmp_path: Path) -> None:
    ran = run(with_files_of(tmp_path, ""), "-m", "qreg", "list")
    assert ran.returncode == 1
    assert ran.stderr.startswith("Error: qreg/__init__.py is that of another library (expected ")
    assert "pip install --force-reinstall --no-deps qreg-core" in ran.stderr


def test_a_file_that_the_other_library_took_with_it_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    namespace = ModuleType("qreg")
    namespace.__file__ = None
    monkeypatch.setitem(sys.modules, "qreg", namespace)
    with pytest.raises(InstallationError, match=r"__init__.py is missing .*'qreg-core'\)\. Run"):
        identity.check_own()


def test_the_import_warns_of_another_library_in_the_same_folder(tmp_path: Path) -> None:
    init = Path(qreg.__file__).read_text(encoding="utf-8")
    folder = with_files_of(tmp_path, init)
    for name in ("qreg-0.1.dist-info", "qreg_core-0.1.0.dist-info", "qreg_xnnpack-0.1.0.dist-info"):
        (folder / name).mkdir()
    ran = run(folder, "-c", "import qreg")
    assert ran.stderr.count("UserWarning") == 1
    assert (
        "installed in its folder too, as qreg-0.1.dist-info (expected 'qreg-core' alone)"
        in ran.stderr
    )
    assert identity.REMEDY in ran.stderr
    (folder / "qreg-0.1.dist-info").rmdir()
    assert run(folder, "-c", "import qreg").stderr == ""
