"""Finds the plugins, loads each behind its own ``try``, and calls their hooks one by one.

pluggy's own loading stops at the first entry point that raises, and its hook calls lose the name of
the plugin that failed. One broken distribution must not take the others down, so the host does both
a plugin at a time, and keeps what went wrong.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import Distribution, EntryPoint, distributions, version
from typing import Any

import pluggy
from attrs import define, field

from qreg import hookspecs
from qreg.errors import PluginError, UnknownNameError
from qreg.switches import Switches

IN_PROCESS = "in-process"


class PluginWarning(UserWarning):
    """A plugin is broken and was left out; the others work."""


@define(eq=False)
class Plugin:
    """One plugin: where it came from, and what is wrong with it or keeps it out, if anything."""

    name: str
    distribution: str
    version: str
    load: Callable[[], object] = field(repr=False)
    instance: object = field(default=None, repr=False)
    error: PluginError | None = None
    left_out: str | None = None

    @property
    def works(self) -> bool:
        return self.error is None and self.left_out is None

    def broken(
        self,
        problem: str,
        cause: BaseException | None = None,
        *,
        hook: str | None = None,
        strict: bool = False,
    ) -> None:
        """Notes down what is wrong, and says it: as a warning, or if strict as an error."""
        self.error = PluginError(self.name, self.distribution, self.version, problem, hook)
        self.error.__cause__ = cause
        if strict:
            raise self.error
        warnings.warn(str(self.error), PluginWarning, stacklevel=2)


class PluginHost:
    """The loaded plugins, in the order of their names."""

    def __init__(
        self, plugins: Mapping[str, object], *, entry_points: bool, switches: Switches
    ) -> None:
        self._switches = switches
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        given = [Plugin(name, IN_PROCESS, "", _giving(each)) for name, each in plugins.items()]
        found = list(discover()) if entry_points else []
        self._check_wanted([*given, *found])
        self.plugins: list[Plugin] = []
        for plugin in [*given, *found]:
            self._add(plugin)
        self.plugins.sort(key=lambda plugin: plugin.name)

    def _check_wanted(self, known: list[Plugin]) -> None:
        names = {plugin.name for plugin in known}
        for name in sorted((self._switches.load or frozenset()) - names):
            raise UnknownNameError("plugin", name, names, "`qreg list` shows what is installed.")

    def _add(self, plugin: Plugin) -> None:
        rival = next((p for p in self.plugins if p.name == plugin.name), None)
        self.plugins.append(plugin)
        plugin.left_out = self._switches.why_not(plugin.name)
        if plugin.left_out is not None:
            return
        if plugin.error is not None:
            self.broken(plugin, plugin.error.problem, plugin.error.__cause__)
        elif rival is not None:
            self.broken(plugin, f"{plugin.name!r} already belongs to {rival.distribution!r}")
        else:
            self._load(plugin)

    def _load(self, plugin: Plugin) -> None:
        try:
            plugin.instance = plugin.load()
            self._manager.register(plugin.instance, plugin.name)
        except KeyboardInterrupt:
            raise
        except BaseException as cause:  # a plugin may well raise SystemExit while importing
            self.broken(plugin, f"loading it raised {cause!r}", cause)
            return
        for problem in self._malformed_hooks(plugin):
            self._manager.unregister(plugin.instance)
            self.broken(plugin, problem)
            return

    def broken(
        self,
        plugin: Plugin,
        problem: str,
        cause: BaseException | None = None,
        hook: str | None = None,
    ) -> None:
        """Notes down that a plugin is broken. Raises ``PluginError`` if the switches are strict."""
        plugin.broken(problem, cause, hook=hook, strict=self._switches.strict)

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
        if not plugin.works:
            return []
        others = [p.instance for p in self.plugins if p is not plugin and p.instance is not None]
        caller = self._manager.subset_hook_caller(hook, remove_plugins=others)
        started = time.perf_counter()
        answer = caller(**arguments)
        if caller.spec is not None and caller.spec.opts["firstresult"]:
            answers = [] if answer is None else [answer]
        else:
            answers = [value for values in answer for value in values]
        if self._switches.trace and caller.get_hookimpls():
            self._trace(plugin, hook, arguments, len(answers), time.perf_counter() - started)
        return answers

    def _trace(
        self, plugin: Plugin, hook: str, arguments: dict[str, Any], count: int, seconds: float
    ) -> None:
        given = ", ".join(map(repr, filter(_is_short, arguments.values())))
        sys.stderr.write(
            f"qreg: {hook}({given}) of plugin {plugin.name} ({plugin.distribution} "
            f"{plugin.version}): {count} in {1000 * seconds:.1f} ms\n"
        )

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
                self.broken(plugin, f"it raised {cause!r}", cause, hook)
            else:
                yield plugin, values


def _is_short(argument: object) -> bool:
    return isinstance(argument, str)


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
        misfit = _version_misfit(distribution)
    except Exception as cause:
        yield _unreadable(name, distribution, cause)
        return
    for point in points:
        plugin = Plugin(point.name, name, distribution.version, point.load)
        if misfit is not None:
            plugin.error = PluginError(point.name, name, distribution.version, misfit)
        yield plugin


def _unreadable(name: str, distribution: Distribution, cause: Exception) -> Plugin:
    plugin = Plugin(name, name, distribution.version, load=object)
    problem = f"its metadata cannot be read: {cause!r}"
    plugin.error = PluginError(name, name, distribution.version, problem)
    plugin.error.__cause__ = cause
    return plugin


def _version_misfit(distribution: Distribution) -> str | None:
    """Why a distribution does not go with this version of qreg, by its own requirement."""
    wanted = [text for text in distribution.requires or () if text.startswith(hookspecs.PROJECT)]
    if not wanted:
        return None
    from packaging.requirements import Requirement

    ours = version(hookspecs.PROJECT)
    for requirement in map(Requirement, wanted):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        fits = requirement.specifier.contains(ours, prereleases=True)
        if requirement.name == hookspecs.PROJECT and not fits:
            return f"it was made for qreg{requirement.specifier}, and this is qreg {ours}"
    return None
