"""Table rows on installed plugins, and on what a backend covers. Does not import torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qreg.errors import QregError

if TYPE_CHECKING:
    from qreg.plugins.plugin import Plugin
    from qreg.plugins.registry import Registry
    from qreg.utils.tables import Row


def plugin_rows(registry: Registry) -> list[Row]:
    """Return one row for each plugin: its distribution, its backends, and its faults."""
    registry.examine()
    backends = registry.backends().values()
    algorithms = registry.algorithms().items()
    return [
        {
            "plugin": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "backends": [b.value.name for b in backends if b.plugin == plugin.name],
            "algorithms": [name for name, a in algorithms if a.plugin == plugin.name],
            "adds": list(_additions(plugin, registry)),
            "summary": "; ".join(b.value.summary for b in backends if b.plugin == plugin.name),
            "left out": plugin.left_out or plugin.unused or "",
            "broken": _broken(plugin),
        }
        for plugin in registry.plugins
    ]


def _additions(plugin: Plugin, registry: Registry) -> Iterator[str]:
    """Yield what a plugin adds to the backends of others: ``"1 annotator to xnnpack"``."""
    for name, backend in registry.backends().items():
        if backend.plugin == plugin.name:
            continue
        for kind, supplied in _supplied(registry, name).items():
            count = sum(each == plugin.name for each in supplied)
            if count:
                yield f"{count} {kind}{'s' if count > 1 else ''} to {name}"


def _supplied(registry: Registry, backend: str) -> dict[str, list[str]]:
    """Return the plugins that supply configs and annotators for a backend, once for each."""
    try:
        configs, annotators = registry.configs(backend).values(), registry.annotators(backend)
    except QregError:  # the registry has recorded it as a fault of a plugin
        return {}
    return {
        "config": [each.plugin for each in configs],
        "annotator": [each.plugin for each in annotators],
    }


def _broken(plugin: Plugin) -> str:
    errors = [*([plugin.error] if plugin.error else []), *plugin.faults]
    return "; ".join(error.summary for error in errors)


def config_rows(registry: Registry, backend: str) -> list[Row]:
    """Return one row for each config of a backend: its mode, its summary, and its distribution.

    Raises ``UnknownNameError`` for an unknown backend.
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
    """Return one row for each annotator, in calling order: its pattern and its distribution.

    An annotator covers the configs of its modes.
    """
    configs = registry.configs(backend)
    return [
        {
            "annotator": supplied.value.name,
            "configs": [
                name for name, c in configs.items() if c.value.mode in supplied.value.modes
            ],
            "modes": " ".join(sorted(supplied.value.modes)),
            "operators": list(supplied.value.targets),
            "pattern": supplied.value.summary,
            "replaces": list(supplied.value.replaces),
            "distribution": supplied.distribution,
        }
        for supplied in registry.annotators(backend)
    ]


def algorithm_rows(registry: Registry) -> list[Row]:
    """Return one row for each algorithm, in the order in which they are tried.

    Algorithms are for every backend.
    """
    return [
        {
            "algorithm": name,
            "stage": supplied.value.stage,
            "auto": "yes" if supplied.value.automatic else "",
            "parameters": {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in supplied.value.parameters.items()
            },
            "summary": supplied.value.summary,
            "distribution": supplied.distribution,
        }
        for name, supplied in registry.algorithms().items()
    ]


def option_rows(registry: Registry, backend: str) -> list[Row]:
    """Return one row for each option of a backend: its default, its choices, and its summary."""
    return [
        {
            "option": option.name,
            "default": str(option.default),
            "choices": [str(choice) for choice in option.choices],
            "summary": option.summary,
        }
        for option in registry.backend(backend).value.options
    ]
