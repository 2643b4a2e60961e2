"""Settings of the environment: which plugins to load, how to handle faults, where to cache."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from attrs import field, frozen

from qreg.errors import several

LOAD, DISABLE = "QREG_LOAD_PLUGINS", "QREG_DISABLE_PLUGINS"
STRICT, TRACE = "QREG_STRICT", "QREG_TRACE"
CACHE = "QREG_CACHE"


def _names(values: Iterable[str] | None) -> frozenset[str] | None:
    return None if values is None else _all_names(values)


def _all_names(values: Iterable[str]) -> frozenset[str]:
    return frozenset(several("plugins to load or to disable", values))


@frozen
class Switches:
    """How installed plugins are loaded, and where lowered programs are kept.

    ``load`` are the only plugins to load, None for all; ``disable`` are always skipped. Both are
    names of plugins or of distributions. ``strict`` turns the warning of a broken plugin into an
    error. ``trace`` prints each call of a hook on standard error. ``cache`` is the folder of
    lowered programs; empty for none.
    """

    load: frozenset[str] | None = field(default=None, converter=_names)
    disable: frozenset[str] = field(default=(), converter=_all_names)
    strict: bool = False
    trace: bool = False
    cache: str = field(default="", converter=str)

    def why_not(self, plugin: str, distribution: str) -> str | None:
        """Return why a plugin is not loaded, or None if it is.

        A plugin is matched by the name of its entry point and by that of its distribution.
        """
        names = {plugin, distribution}
        if names & self.disable:
            return f"disabled (--disable-plugins or {DISABLE})"
        if self.load is not None and not names & self.load:
            return f"not among those to load (--load-plugins or {LOAD})"
        return None


def from_environment(
    load: Iterable[str] | None = None,
    disable: Iterable[str] | None = None,
    strict: bool | None = None,
    trace: bool | None = None,
    cache: str | Path | None = None,
) -> Switches:
    """Return the switches; those that are None are read from the environment.

    Names are separated by commas. An empty ``QREG_LOAD_PLUGINS`` loads no plugin.
    """
    return Switches(
        load=_listed(LOAD) if load is None else load,
        disable=(_listed(DISABLE) or ()) if disable is None else disable,
        strict=_is_on(STRICT) if strict is None else strict,
        trace=_is_on(TRACE) if trace is None else trace,
        cache=_cache() if cache is None else cache,
    )


def _cache() -> str:
    """Return the folder in the environment, or that of the user; empty without either."""
    given = os.environ.get(CACHE)
    if given is not None:
        return given
    shared = os.environ.get("XDG_CACHE_HOME")
    try:
        return str((Path(shared) if shared else Path.home() / ".cache") / "qreg")
    except RuntimeError:  # the user has no home
        return ""


def listed(names: str) -> list[str]:
    """Return the names in a comma-separated text."""
    return [name.strip() for name in names.split(",") if name.strip()]


def _listed(variable: str) -> list[str] | None:
    text = os.environ.get(variable)
    return None if text is None else listed(text)


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")
