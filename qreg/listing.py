"""Rows about what is installed, and what a backend covers. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qreg.registry import Registry
    from qreg.tables import Row


def plugin_rows(registry: Registry) -> list[Row]:
    """One row for each plugin: its distribution, its backends, and what is wrong with it."""
    backends = registry.backends().values()
    return [
        {
            "plugin": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "backends": [b.value.name for b in backends if b.plugin == plugin.name],
            "summary": "; ".join(b.value.summary for b in backends if b.plugin == plugin.name),
            "broken": plugin.error.problem if plugin.error else "",
        }
        for plugin in registry.plugins
    ]


def config_rows(registry: Registry, backend: str) -> list[Row]:
    """One row for each config of a backend: its mode, what it means, and its supplier.

    Raises ``UnknownNameError`` for a backend that nothing supplies.
    """
    default = registry.backend(backend).value.default_config
    return [
        {
            "config": name,
            "mode": supplied.value.mode,
            "default": "yes" if name == default else "",
            "summary": supplied.value.summary,
            "distribution": supplied.distribution,
        }
        for name, supplied in registry.configs(backend).items()
    ]


def pattern_rows(registry: Registry, backend: str) -> list[Row]:
    """One row for each annotator, in the order they are asked: its pattern and its supplier.

    An annotator covers the configs of its modes.
    """
    return [
        {
            "annotator": supplied.value.name,
            "modes": " ".join(sorted(supplied.value.modes)),
            "operators": list(supplied.value.targets),
            "pattern": supplied.value.summary,
            "distribution": supplied.distribution,
        }
        for supplied in registry.annotators(backend)
    ]
