"""A value of a plugin, with the distribution that it came from."""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import frozen

T = TypeVar("T", covariant=True)


@frozen
class Supplied(Generic[T]):
    """A value together with the plugin and the distribution that supplied it."""

    value: T
    plugin: str
    distribution: str
    version: str = ""
