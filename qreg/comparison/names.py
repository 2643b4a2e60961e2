"""Check the names of a comparison ahead of any work; this module does not import torch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from qreg.comparison.values import FLOAT
from qreg.errors import InputError, PluginError, UnknownNameError, several
from qreg.plugins.registry import DEFAULT, Registry


def chosen_configs(
    registry: Registry, backends: Sequence[str], configs: Mapping[str, str]
) -> dict[str, str]:
    """Return the name of the config for each backend to compare, without duplicates.

    Raises ``InputError`` without a backend, and ``UnknownNameError`` for a backend or config that
    does not exist, and for a config of a backend that is not compared.
    """
    names = [name for name in dict.fromkeys(several("backends", backends)) if name != FLOAT]
    if not names:
        raise InputError("backends: no backend to compare. Pass names listed by `qreg list`.")
    for name in configs:
        if name not in names:
            remedy = "Pass configs of the compared backends only."
            raise UnknownNameError("backend to compare", name, names, remedy)
    chosen = {name: configs.get(name, DEFAULT) for name in names}
    for name, config in chosen.items():
        with contextlib.suppress(PluginError):  # the reason in the entry of that backend
            registry.config(name, config)
    return chosen
