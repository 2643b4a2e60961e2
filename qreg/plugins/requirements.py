"""Check the packages, versions and commands that a backend needs. Does not import torch."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Iterable
from importlib.util import find_spec

from packaging.requirements import Requirement as PipRequirement
from packaging.utils import canonicalize_name

from qreg.errors import BackendUnavailableError
from qreg.plugins.types.backend import Backend, Requirement, Tool


def check_available(backend: Backend, others: Iterable[Backend] = ()) -> None:
    """Raise ``BackendUnavailableError`` with all that is missing, and how to install it.

    ``others`` are the backends that share the environment. If one of them requires a version that
    this backend does not support, the error names it.
    """
    others = [each for each in others if each.name != backend.name]
    faults = [(each.pip, fault) for each in backend.requires if (fault := _fault(each, others))]
    absent = [(tool.install, fault) for tool in backend.tools if (fault := _absence(tool))]
    if faults or absent:
        problems = [fault for _, fault in (*faults, *absent)]
        packages = list(dict.fromkeys(pip for pip, _ in faults))
        raise BackendUnavailableError(backend.name, problems, packages, [i for i, _ in absent])


def _fault(needed: Requirement, others: Iterable[Backend]) -> str | None:
    wanted = PipRequirement(needed.pip)
    if wanted.marker is not None and not wanted.marker.evaluate():
        return None
    if not _importable(needed.module):
        return f"{needed.module} is not installed"
    version = _version(wanted.name)
    if version is None or wanted.specifier.contains(version, prereleases=True):
        return None
    problem = f"{wanted.name} {version} is installed (expected {wanted.specifier})"
    content = [each.name for each in others if _wants(each, wanted.name, version)]
    if not content:
        return problem
    names = " and ".join(map(repr, content))
    return f"{problem}; it is required by {names}: use separate environments"


def _wants(backend: Backend, distribution: str, version: str) -> bool:
    """Whether a backend requires versions of a distribution that include this one."""
    name = canonicalize_name(distribution)
    asked = [PipRequirement(needed.pip) for needed in backend.requires]
    ranges = [each.specifier for each in asked if canonicalize_name(each.name) == name]
    return any(each and each.contains(version, prereleases=True) for each in ranges)


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # raised for a missing parent package
        return False


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # a custom build, or part of another package
        return None


def _absence(tool: Tool) -> str | None:
    named = os.environ.get(tool.variable or "")
    if shutil.which(named or tool.command):
        return None
    source = f", which {tool.variable} names," if named else ""
    return f"the command {named or tool.command}{source} is missing"
