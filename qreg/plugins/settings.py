"""What the environment says about plugins: which to load, and how to take their faults."""

from __future__ import annotations

import os
from collections.abc import Iterable

from attrs import field, frozen

from qreg.errors import several

LOAD, DISABLE = "QREG_LOAD_PLUGINS", "QREG_DISABLE_PLUGINS"
STRICT, TRACE = "QREG_STRICT", "QREG_TRACE"


def _names(values: Iterable[str] | None) -> frozenset[str] | None:
    return None if values is None else _all_names(values)


def _all_names(values: Iterable[str]) -> frozenset[str]:
    return frozenset(several("plugins to load or to disable", values))


@frozen
class Switches:
    """How installed plugins are taken.

    ``load`` are the only ones to load, None for all; ``disable`` are left out in any case. Both
    have names of plugins or of distributions. ``strict`` turns the warning of a broken plugin into
    an error. ``trace`` prints each call of a hook on standard error.
    """

    load: frozenset[str] | None = field(default=None, converter=_names)
    disable: frozenset[str] = field(default=(), converter=_all_names)
    strict: bool = False
    trace: bool = False

    def why_not(self, plugin: str, distribution: str) -> str | None:
        """Why a plugin is not loaded, or None if it is.

        A plugin goes by the name of its entry point and by that of its distribution.
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
) -> Switches:
    """The switches that are given, and for those that are None what the environment says.

    Names are separated by commas. ``QREG_LOAD_PLUGINS`` set to nothing loads none.
    """
    return Switches(
        load=_listed(LOAD) if load is None else load,
        disable=(_listed(DISABLE) or ()) if disable is None else disable,
        strict=_is_on(STRICT) if strict is None else strict,
        trace=_is_on(TRACE) if trace is None else trace,
    )


def listed(names: str) -> list[str]:
    """The names in a text that separates them by commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def _listed(variable: str) -> list[str] | None:
    text = os.environ.get(variable)
    return None if text is None else listed(text)


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")
