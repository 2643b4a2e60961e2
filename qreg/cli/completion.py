"""Complete the names of backends, configs and algorithms in a shell."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import click

from qreg.errors import QregError
from qreg.plugins.registry import DEFAULT, Registry


def backends(context: click.Context, option: click.Parameter, text: str) -> list[str]:
    """Return the backends whose names continue a text, or the last name of a list."""
    return _continued(text, _listed(Registry.backends))


def configs(context: click.Context, option: click.Parameter, text: str) -> list[str]:
    """Return the configs of the command's backend whose names continue a text."""
    backend = context.params["backend"]
    return _continued(text, [DEFAULT, *_listed(lambda registry: registry.configs(backend))])


def algorithms(context: click.Context, option: click.Parameter, text: str) -> list[str]:
    """Return the algorithms whose names continue the last name of a list."""
    return _continued(text, ["auto", *_listed(Registry.algorithms)])


def _listed(names: Callable[[Registry], Iterable[str]]) -> list[str]:
    """Return names from the installed plugins; the command itself reports what is wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return list(names(Registry()))
        except QregError:
            return []


def _continued(text: str, names: Iterable[str]) -> list[str]:
    before, comma, last = text.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]
