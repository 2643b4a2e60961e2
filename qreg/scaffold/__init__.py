"""Write a project for a new plugin, with passing tests.

The templates are complete plugins, so that an author starts from working code. The license is the
author's choice, so the project does not have one.
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
from qreg.identity import HOST

Kind: TypeAlias = Literal["annotator", "config", "backend", "algorithm"]
KINDS: tuple[Kind, ...] = get_args(Kind)

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def new_plugin(name: str, kind: Kind = "annotator", output: str | Path = ".") -> Path:
    """Write the project ``qreg-NAME`` into a folder, in full or not at all, and return its path.

    Raises ``InputError`` for a name that is not valid for a distribution, and for a folder that
    cannot be written or that already has a project of that name.
    """
    if kind not in KINDS:
        raise InputError(f"kind {kind!r}: unknown (expected one of {', '.join(KINDS)})")
    _check_name(name)
    project = Path(output) / f"qreg-{name}"
    if project.exists() or project.is_symlink():
        raise InputError(f"{project} exists already. Choose another name, or remove it first.")
    try:
        _write(project, dict(_rendered(name, kind)))
    except OSError as cause:
        raise InputError(f"{project} cannot be written: {cause}") from cause
    return project


def _check_name(name: str) -> None:
    if name.startswith("qreg-"):
        raise InputError(
            f"plugin name {name!r}: the prefix qreg- is added to it. Pass {name[5:]!r}."
        )
    if not NAME.fullmatch(name):
        raise InputError(
            f"plugin name {name!r} is not valid (expected lower-case letters and digits, in words "
            "joined by hyphens, beginning with a letter, such as 'my-ops')."
        )


def _write(project: Path, files: dict[str, str]) -> None:
    # The temporary folder is next to the project, so that the last step is one rename.
    with tempfile.TemporaryDirectory(dir=project.parent, prefix=f".{project.name}.") as folder:
        unfinished = Path(folder) / project.name
        for name, text in files.items():
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        unfinished.rename(project)


def _rendered(name: str, kind: Kind) -> Iterator[tuple[str, str]]:
    """Yield the files of a project: the path within the project, and the text."""
    environment = Environment(
        loader=PackageLoader("qreg.scaffold"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    short = name.replace("-", "_")
    values = {"name": name, "short": short, "kind": kind, "host": HOST}
    values["versions"] = _versions()
    for template, path in (
        ("pyproject.toml", "pyproject.toml"),
        ("README.md", "README.md"),
        ("gitignore", ".gitignore"),
        (f"{kind}/module.py", f"qreg_{short}.py"),
        (f"{kind}/test.py", f"tests/test_{short}.py"),
    ):
        yield path, environment.get_template(f"{template}.jinja").render(values)


def _versions() -> str:
    """Return the compatible versions of qreg; ahead of 1.0 a minor version may break plugins."""
    major, minor = map(int, version(HOST).split(".")[:2])
    return f">={major}.{minor},<{major + 1}" if major else f">=0.{minor},<0.{minor + 1}"
