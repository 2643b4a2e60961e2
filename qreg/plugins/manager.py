"""Find the plugins, load each in a separate ``try``, and call their hooks one by one.

pluggy's loading stops at the first entry point that raises, and its hook calls do not report the
name of the plugin that failed. A broken distribution must not affect the others, so the host loads
and calls one plugin at a time, and records the errors.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pluggy

from qreg.errors import IN_PROCESS, ConflictError, PluginError, UnknownNameError
from qreg.plugins import hookspecs
from qreg.plugins.discovery import Found, discover
from qreg.plugins.plugin import Plugin
from qreg.plugins.probing import compared
from qreg.plugins.settings import Switches
from qreg.utils.logging import say
from qreg.utils.traces import place, short


class PluginWarning(UserWarning):
    """A plugin is broken and skipped, or has a fault; the other plugins are not affected."""


class PluginHost:
    """The loaded plugins, in the order of their names."""

    def __init__(
        self, plugins: Mapping[str, object], *, entry_points: bool, switches: Switches
    ) -> None:
        self._switches = switches
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        given = [Found(name, IN_PROCESS, "", _giving(each)) for name, each in plugins.items()]
        found = [*given, *(discover() if entry_points else ())]
        self._check_wanted(found)
        self.plugins: list[Plugin] = []
        for each in found:
            self._add(each)
        self.plugins.sort(key=lambda plugin: plugin.name)

    def _check_wanted(self, found: list[Found]) -> None:
        names = {each.name for each in found} | {each.distribution for each in found}
        for name in sorted((self._switches.load or frozenset()) - names):
            known = {each.name for each in found}
            raise UnknownNameError("plugin", name, known, "`qreg list` shows what is installed.")

    def _add(self, found: Found) -> None:
        plugin = Plugin(
            found.name, found.distribution, found.version, found.load, module=found.module
        )
        plugin.left_out = self._switches.why_not(plugin.name, plugin.distribution)
        rival = self._in_force(plugin.name)
        self.plugins.append(plugin)
        if plugin.left_out is not None:
            return
        if found.problem is not None:
            self.broken(plugin, found.problem, found.cause)
        elif rival is not None:
            self.broken(plugin, f"{plugin.name!r} already belongs to {_stays(rival)}", rival=rival)
        else:
            self._load(plugin)
        if found.fault is not None:
            remedy = (
                f"Uninstall all but one: `pip uninstall {plugin.distribution}` removes the first."
            )
            self.fault(plugin, found.fault, remedy=remedy)

    def _in_force(self, name: str) -> Plugin | None:
        return next((p for p in self.plugins if p.name == name and p.left_out is None), None)

    def _load(self, plugin: Plugin) -> None:
        try:
            instance = plugin.load()
            twin = self._manager.get_name(instance)
            if twin is None:
                self._manager.register(instance, plugin.name)
        except KeyboardInterrupt:
            raise
        except BaseException as cause:  # a plugin may well raise SystemExit while importing
            self.broken(plugin, f"loading it raised {short(cause)}{place(cause)}", cause)
            return
        if twin is not None:
            rival = next(each for each in self.plugins if each.name == twin)
            self.broken(plugin, f"it is the same object as plugin {twin!r} of {_stays(rival)}")
            return
        plugin.instance = instance
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
        *,
        rival: Plugin | None = None,
    ) -> None:
        """Mark a plugin as broken. Raises ``PluginError`` if the switches are strict.

        ``rival`` is another plugin of the same name, from which only the distribution
        distinguishes it.
        """
        remedy = None if rival is None else _without_one(plugin, rival)
        plugin.error = plugin.blamed(problem, cause, hook=hook, remedy=remedy)
        self._report(plugin.error)

    def fault(
        self, plugin: Plugin, problem: str, hook: str | None = None, remedy: str | None = None
    ) -> None:
        """Record a fault of a plugin that stays in force, once. Raises it if strict."""
        if problem not in [each.problem for each in plugin.faults]:
            error = plugin.blamed(problem, hook=hook, in_force=plugin.works, remedy=remedy)
            plugin.faults.append(error)
            self._report(error)

    def conflict(self, plugins: Sequence[Plugin], error: ConflictError) -> None:
        """Record a name that several plugins claim as a fault of each. Raises it if strict."""
        for plugin in plugins:
            plugin.faults.append(error)
        self._report(error)

    def _report(self, error: PluginError) -> None:
        if self._switches.strict:
            raise error
        if self._switches.trace and error.__cause__ is not None:
            say("".join(traceback.format_exception(error.__cause__)).rstrip())
        warnings.warn(str(error), PluginWarning, stacklevel=2)

    def _malformed_hooks(self, plugin: Plugin) -> Iterator[str]:
        callers = self._manager.get_hookcallers(plugin.instance) or []
        implemented = {caller.name for caller in callers}
        for caller in callers:
            if not caller.has_spec():
                yield f"it implements {caller.name!r}, which is not a hook of qreg"
        for name in vars(hookspecs):
            unmarked = name.startswith("qreg_") and name not in implemented
            if unmarked and hasattr(plugin.instance, name):
                yield f"its {name!r} is not marked with @qreg.hookimpl"

    @property
    def working(self) -> list[Plugin]:
        return [plugin for plugin in self.plugins if plugin.works]

    def extends(self, plugin: Plugin, hook: str) -> list[str]:
        """Return the backends with whose names a hook of a plugin compares its argument.

        Hooks are called for every installed backend, so a hook that raises for an unknown one is
        broken.
        """
        try:
            return compared(lambda name: self.call(plugin, hook, backend=name))
        except Exception as cause:  # raised by a plugin
            problem = f"it raised {short(cause)} for a backend that it does not know{place(cause)}"
            self.broken(plugin, problem, cause, hook)
            return []

    def call(self, plugin: Plugin, hook: str, **arguments: Any) -> list[Any]:
        """Return the results of one hook of one plugin; empty if it does not implement the hook.

        Raises whatever the hook raises. The caller decides whether the plugin is broken.
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
        origin = f"{plugin.name} ({plugin.distribution} {plugin.version})"
        say(f"qreg: {hook}({given}) of plugin {origin}: {count} in {1000 * seconds:.1f} ms")

    def collect(
        self, hook: str, expected: type, **arguments: Any
    ) -> Iterator[tuple[Plugin, list[Any]]]:
        """Yield each plugin with the values of ``expected`` type that it yields from ``hook``.

        A plugin that raises, or yields a value of another type, is marked as broken and skipped.
        """
        for plugin in self.plugins:
            try:
                values = self.call(plugin, hook, **arguments)
                strange = [value for value in values if not isinstance(value, expected)]
                if strange:
                    raise TypeError(f"yielded {strange[0]!r} (expected {expected.__name__})")
            except Exception as cause:  # raised by a plugin
                self.broken(plugin, f"it raised {short(cause)}{place(cause)}", cause, hook)
            else:
                yield plugin, values


def _stays(rival: Plugin) -> str:
    where = f"{rival.distribution!r} {rival.version}".rstrip()
    return f"{where}, which stays in force" if rival.works else where


def _without_one(plugin: Plugin, rival: Plugin) -> str:
    names = [each.distribution for each in (plugin, rival) if each.distribution != IN_PROCESS]
    return f"Skip one of them by its distribution: QREG_DISABLE_PLUGINS={' or '.join(names)}."


def _is_short(argument: object) -> bool:
    return isinstance(argument, str)


def _giving(instance: object) -> Callable[[], object]:
    return lambda: instance
