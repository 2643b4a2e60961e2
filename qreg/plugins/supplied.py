"""Values from plugins, with the plugin that supplied them."""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import frozen

from qreg.plugins.plugin import Plugin

T = TypeVar("T", covariant=True)


@frozen
class Supplied(Generic[T]):
    """A value together with the plugin that supplied it."""

    value: T
    source: Plugin

    @property
    def plugin(self) -> str:
        """The name of the plugin."""
        return self.source.name

    @property
    def distribution(self) -> str:
        return self.source.distribution

    @property
    def version(self) -> str:
        return self.source.version
