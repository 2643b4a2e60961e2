"""The documentation strings of Python's own library, as a text to train language models on."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

ELSEWHERE = {"site-packages", "test", "tests", "idlelib"}  # folders that are not read


def text(pattern: str = "*.py") -> str:
    """Return the strings of the modules that match a pattern, in the order of their paths."""
    library = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(library.glob(pattern))
    own = [path for path in paths if not ELSEWHERE & set(path.relative_to(library).parts)]
    return "\n".join(found for path in own for found in _docstrings(path))


def _docstrings(path: Path) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, documented) and (found := ast.get_docstring(node)):
            yield found
