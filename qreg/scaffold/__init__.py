"""Writes a project for a new plugin: what there is to write, and tests that pass as they are.

The templates are complete plugins, so that an author changes what works rather than completes what
does not. A license is the author's choice, so none is written.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined

from qreg.errors import InputError

Kind: TypeAlias = Literal["annotator", "config", "backend"]
KINDS: tuple[Kind, ...] = get_args(Kind)

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def new_plugin(name: str, kind: Kind = "annotator", output: str | Path = ".") -> Path:
    """Writes the project ``qreg-NAME`` into a folder, in full or not at all, and returns its path.

    Raises ``InputError`` for a name that no distribution can have, and for a folder that cannot be
    written or has a project of that name already.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}: choose one of {', '.join(KINDS)}")
    _check_name(name)
    project = Path(output) / f"qreg-{name}"
    if project.exists() or project.is_symlink():
        raise InputError(f"{project} exists already: choose another name, or take it away first")
    try:
        _write(project, dict(_rendered(name, kind)))
    except OSError as cause:
        raise InputError(f"{project} cannot be written: {cause}") from cause
    return project


def _check_name(name: str) -> None:
    if name.startswith("qreg-"):
        raise InputError(f"{name!r} begins with qreg-, which is added: say {name[5:]!r}")
    if not NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name for a plugin: it has lower-case letters and digits, in words "
            "that are joined by hyphens and begin with a letter, such as 'my-ops'"
        )


def _write(project: Path, files: dict[str, str]) -> None:
    # Next to where it will be, so that the last step is one rename.
    with tempfile.TemporaryDirectory(dir=project.parent, prefix=f".{project.name}.") as folder:
        unfinished = Path(folder) / project.name
        for name, text in files.items():
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        unfinished.rename(project)


def _rendered(name: str, kind: Kind) -> Iterator[tuple[str, str]]:
    """The files of a project, with their paths in it."""
    environment = Environment(
        loader=PackageLoader("qreg.scaffold"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    short = name.replace("-", "_")
    values = {"name": name, "short": short, "kind": kind, "versions": _versions()}
    for template, path in (
        ("pyproject.toml", "pyproject.toml"),
        ("README.md", "README.md"),
        ("gitignore", ".gitignore"),
        (f"{kind}/module.py", f"qreg_{short}.py"),
        (f"{kind}/test.py", f"tests/test_{short}.py"),
    ):
        yield path, environment.get_template(f"{template}.jinja").render(values)


def _versions() -> str:
    """The versions of qreg that a plugin for this one goes with: before 1.0 a minor one breaks."""
    major, minor = map(int, version("qreg").split(".")[:2])
    return f">={major}.{minor},<{major + 1}" if major else f">=0.{minor},<0.{minor + 1}"
