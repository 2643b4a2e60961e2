"""Which distributions a worker must have, and in which versions."""

from __future__ import annotations

import importlib.metadata
import socket
from collections.abc import Iterator, Mapping

from packaging.requirements import Requirement

from qreg.errors import IN_PROCESS, InputError, WorkerError
from qreg.identity import HOST
from qreg.plugins.registry import Registry, installed

ALWAYS = (HOST, "torch", "torchao")


def needs(registry: Registry, backend: str) -> dict[str, str]:
    """Return the distributions that supply a backend, and those it requires, with their versions.

    Raises ``InputError`` for a plugin that was passed as an object, which workers cannot load.
    """
    supplied = (
        registry.backend(backend),
        *registry.configs(backend).values(),
        *registry.annotators(backend),
    )
    for each in supplied:
        if each.distribution == IN_PROCESS:
            raise InputError(
                f"plugin {each.plugin!r}: it was passed as an object (expected an installed "
                "distribution, which other processes can load). Install it, or use workers=1 "
                "without a timeout."
            )
    required = (Requirement(each.pip).name for each in registry.backend(backend).value.requires)
    versions = {name: version(name) for name in (*ALWAYS, *required)}
    plugins = {each.distribution: each.version for each in supplied}
    return {**{name: found for name, found in versions.items() if found}, **plugins}


def check(needed: Mapping[str, str]) -> None:
    """Raise ``WorkerError`` for the first distribution that is missing here or differs."""
    for distribution, wanted in needed.items():
        problem = next(_problems(distribution, wanted), None)
        if problem is not None:
            pip = f"pip install {distribution}=={wanted}"
            raise WorkerError(
                f"distribution {distribution!r} {problem} (expected {wanted}, as in the process "
                f"that started the jobs). Install it there with `{pip}`",
                host=socket.gethostname(),
                distribution=distribution,
            )


def version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _problems(distribution: str, wanted: str) -> Iterator[str]:
    found = version(distribution)
    if found is None:
        yield "is not installed"
    elif found != wanted:
        yield f"has version {found}"
    for plugin in installed().plugins:
        if plugin.distribution == distribution and not plugin.works:
            yield f"is not loaded: {plugin.left_out or plugin.error}"
