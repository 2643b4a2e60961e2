"""Check the names of backends and of their configs ahead of any work. Does not import torch."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence

from qreg.errors import InputError, PluginError, UnknownNameError, several
from qreg.plugins.registry import DEFAULT, Registry


def chosen_configs(
    registry: Registry,
    backends: Sequence[str],
    configs: Mapping[str, str],
    besides: Collection[str] = (),
) -> dict[str, str]:
    """Return the name of the config for each backend, without duplicates.

    Names in ``besides`` are left out. Raises ``InputError`` without a backend, and
    ``UnknownNameError`` for a backend or config that does not exist, and for a config of a backend
    that is not named.
    """
    names = [name for name in dict.fromkeys(several("backends", backends)) if name not in besides]
    if not names:
        raise InputError(
            "backends: there is none (expected at least one). Pass names listed by `qreg list`."
        )
    for name in configs:
        if name not in names:
            remedy = "Pass configs of the named backends only."
            raise UnknownNameError("backend to configure", name, names, remedy)
    chosen = {name: configs.get(name, DEFAULT) for name in names}
    for name, config in chosen.items():
        with contextlib.suppress(PluginError):  # raised again when the backend is used
            registry.config(name, config)
    return chosen
