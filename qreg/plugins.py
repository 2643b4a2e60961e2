"""Finds the plugins, loads each behind its own ``try``, and calls their hooks one by one.

pluggy's own loading stops at the first entry point that raises, and its hook calls lose the name of
the plugin that failed. One broken distribution must not take the others down, so the host does both
a plugin at a time, and keeps what went wrong.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any

import pluggy
from attrs import define, field

from qreg import hookspecs
from qreg.errors import PluginError

IN_PROCESS = "in-process"


class PluginWarning(UserWarning):
    """A plugin is broken and was left out; the others work."""


@define(eq=False)
class Plugin:
    """One plugin: where it came from, and what is wrong with it, if anything is."""

    name: str
    distribution: str
    version: str
    load: Callable[[], object] = field(repr=False)
    instance: object = field(default=None, repr=False)
    error: PluginError | None = None

    def broken(self, problem: str, cause: BaseException | None = None) -> None:
        self.error = PluginError(self.name, self.distribution, problem)
        self.error.__cause__ = cause
        warnings.warn(str(self.error), PluginWarning, stacklevel=2)


class PluginHost:
    """The loaded plugins, in the order of their names."""

    def __init__(self, plugins: Mapping[str, object], *, entry_points: bool) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        given = [Plugin(name, IN_PROCESS, "", _giving(each)) for name, each in plugins.items()]
        self.plugins: list[Plugin] = []
        for plugin in [*given, *(discover() if entry_points else ())]:
            self._add(plugin)
        self.plugins.sort(key=lambda plugin: plugin.name)

    def _add(self, plugin: Plugin) -> None:
        self.plugins.append(plugin)
        if plugin.error is not None:
            return
        rival = next((p for p in self.plugins[:-1] if p.name == plugin.name), None)
        if rival is not None:
            plugin.broken(f"the name {plugin.name!r} already belongs to {rival.distribution!r}")
            return
        try:
            plugin.instance = plugin.load()
            self._register(plugin)
        except KeyboardInterrupt:
            raise
        except BaseException as cause:  # a plugin may well raise SystemExit while importing
            plugin.broken(f"loading it raised {cause!r}", cause)

    def _register(self, plugin: Plugin) -> None:
        self._manager.register(plugin.instance, plugin.name)
        for problem in self._malformed_hooks(plugin):
            self._manager.unregister(plugin.instance)
            plugin.broken(problem)
            return

    def _malformed_hooks(self, plugin: Plugin) -> Iterator[str]:
        callers = self._manager.get_hookcallers(plugin.instance) or []
        implemented = {caller.name for caller in callers}
        for caller in callers:
            if not caller.has_spec():
                yield f"it implements {caller.name!r}, which is no hook of qreg"
        for name in vars(hookspecs):
            unmarked = name.startswith("qreg_") and name not in implemented
            if unmarked and hasattr(plugin.instance, name):
                yield f"its {name!r} is not marked with @qreg.hookimpl"

    def call(self, plugin: Plugin, hook: str, **arguments: Any) -> list[Any]:
        """What one plugin answers to one hook; empty where it does not implement the hook.

        Raises whatever the hook raises: the caller knows whether that makes the plugin broken.
        """
        if plugin.error is not None:
            return []
        others = [p.instance for p in self.plugins if p is not plugin and p.instance is not None]
        caller = self._manager.subset_hook_caller(hook, remove_plugins=others)
        answer = caller(**arguments)
        if caller.spec is not None and caller.spec.opts["firstresult"]:
            return [] if answer is None else [answer]
        return [value for values in answer for value in values]

    def collect(
        self, hook: str, expected: type, **arguments: Any
    ) -> Iterator[tuple[Plugin, list[Any]]]:
        """Each plugin with the values of ``expected`` type that it yields from ``hook``.

        A plugin that raises or yields something else is broken from then on, and yields nothing.
        """
        for plugin in self.plugins:
            try:
                values = self.call(plugin, hook, **arguments)
                strange = [value for value in values if not isinstance(value, expected)]
                if strange:
                    raise TypeError(f"yielded {strange[0]!r}, which is no {expected.__name__}")
            except Exception as cause:
                plugin.broken(f"{hook} raised {cause!r}", cause)
            else:
                yield plugin, values


def _giving(instance: object) -> Callable[[], object]:
    return lambda: instance


def discover() -> Iterator[Plugin]:
    """The plugins that installed distributions name in their entry points, not yet loaded.

    Of two that are plugins and have one name, the first on ``sys.path`` counts, as for imports.
    """
    seen: set[str] = set()
    for distribution in distributions():
        if not _mentions_group(distribution):
            continue
        name = str(distribution.metadata["Name"] or "of unknown name")
        if name not in seen:
            seen.add(name)
            yield from _plugins_of(distribution, name)


def _mentions_group(distribution: Distribution) -> bool:
    # Reading the text is much cheaper than parsing it, and a malformed line cannot raise.
    group = f"[{hookspecs.PROJECT}]"
    try:
        return group in (distribution.read_text("entry_points.txt") or "")
    except UnicodeDecodeError as stray:
        return group.encode() in stray.object


def _plugins_of(distribution: Distribution, name: str) -> Iterator[Plugin]:
    try:
        points: list[EntryPoint] = [
            point for point in distribution.entry_points if point.group == hookspecs.PROJECT
        ]
    except Exception as cause:
        plugin = Plugin(name, name, distribution.version, load=object)
        plugin.broken(f"its entry_points.txt cannot be read: {cause!r}", cause)
        yield plugin
        return
    for point in points:
        yield Plugin(point.name, name, distribution.version, point.load)
