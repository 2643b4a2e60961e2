"""Whether what a backend needs is there, at a version that it works with. Imports none of it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Iterable, Iterator
from importlib.util import find_spec

from packaging.requirements import Requirement as PipRequirement

from qreg.errors import BackendUnavailableError
from qreg.model import Backend, Requirement, Tool


def check_available(backend: Backend, others: Iterable[Backend] = ()) -> None:
    """Raises ``BackendUnavailableError`` with all that is missing, and how to install it.

    ``others`` are the backends that share the environment: where one of them asks for the very
    version that this one cannot use, the error says so.
    """
    others = [each for each in others if each.name != backend.name]
    faults = {each.pip: fault for each in backend.requires if (fault := _fault(each, others))}
    absent = [tool for tool in backend.tools if not _is_there(tool)]
    if faults or absent:
        problems = [
            *faults.values(),
            *(f"the command {tool.command} is missing" for tool in absent),
        ]
        raise BackendUnavailableError(
            backend.name, problems, list(faults), [tool.install for tool in absent]
        )


def _fault(needed: Requirement, others: Iterable[Backend]) -> str | None:
    if not _importable(needed.module):
        return f"{needed.module} is not installed"
    wanted = PipRequirement(needed.pip)
    version = _version(wanted.name)
    if version is None or wanted.specifier.contains(version, prereleases=True):
        return None
    problem = f"{wanted.name} {version} is installed, which is not {wanted.specifier}"
    return f"{problem}{''.join(_content(wanted, version, others))}"


def _content(wanted: PipRequirement, version: str, others: Iterable[Backend]) -> Iterator[str]:
    """Which other backends ask for the version that is there."""
    for other in others:
        for each in (PipRequirement(needed.pip) for needed in other.requires):
            rules = each.specifier
            if each.name == wanted.name and rules and rules.contains(version, prereleases=True):
                yield f" but what backend {other.name!r} needs: give each its own environment"


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that the module would be in
        return False


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # a build of its own, or another package's
        return None


def _is_there(tool: Tool) -> bool:
    command = os.environ.get(tool.variable or "", "") or tool.command
    return shutil.which(command) is not None
