"""A plugin, with its errors and faults."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from qreg.errors import PluginError


@define(eq=False)
class Plugin:
    """One plugin: its origin, and its errors, faults and reasons for being skipped, if any.

    A plugin with an ``error`` is broken and skipped. ``faults`` are reported, and leave the plugin
    in force. ``left_out`` is why the plugin is not loaded. ``unused`` says which of its values are
    for a backend that is not installed. ``module`` is that of its entry point, empty for a plugin
    that was passed as an object.
    """

    name: str
    distribution: str
    version: str
    load: Callable[[], object] = field(repr=False)
    instance: object = field(default=None, repr=False)
    error: PluginError | None = None
    left_out: str | None = None
    unused: str | None = None
    faults: list[PluginError] = field(factory=list)
    module: str = ""

    @property
    def works(self) -> bool:
        return self.error is None and self.left_out is None

    @property
    def origin(self) -> str:
        """The distribution and version of the plugin, for messages."""
        return f"distribution {self.distribution!r} {self.version}".rstrip()

    def blamed(
        self,
        problem: str,
        cause: BaseException | None = None,
        *,
        hook: str | None = None,
        in_force: bool = False,
        remedy: str | None = None,
    ) -> PluginError:
        """Return the error that attributes a problem to this plugin, with its cause chained."""
        who = self.name, self.distribution, self.version
        error = PluginError(*who, problem, hook, in_force=in_force, remedy=remedy)
        error.__cause__ = cause
        return error
