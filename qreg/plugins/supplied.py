"""A value of a plugin, with the distribution that it came from."""

from __future__ import annotations

from typing import Any

from attrs import frozen


@frozen
class Supplied:
    """A value together with the plugin and the distribution that supplied it."""

    value: Any
    plugin: str
    distribution: str
    version: str = ""
