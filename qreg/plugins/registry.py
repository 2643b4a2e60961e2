"""Backends, configs, annotators and algorithms by name, each with the plugin that supplied it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qreg.errors import (
    InputError,
    LoweringError,
    OrderError,
    PluginError,
    QregError,
    UnknownNameError,
    near,
)
from qreg.plugins.clashes import clash, conflict, replaced_by
from qreg.plugins.lowering_hook import lowered_by
from qreg.plugins.manager import PluginHost
from qreg.plugins.operator_names import misfit
from qreg.plugins.ordering import in_order
from qreg.plugins.plugin import Plugin
from qreg.plugins.requirements import check_available
from qreg.plugins.settings import from_environment
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.algorithm import STAGES, Algorithm
from qreg.plugins.types.annotator import Annotator
from qreg.plugins.types.backend import Backend, SupportedConfig
from qreg.plugins.types.program import Lowered

if TYPE_CHECKING:
    from torch.export import ExportedProgram


T = TypeVar("T")
Listed = TypeVar("Listed", SupportedConfig, Annotator)

DEFAULT = "default"
DEFAULT_BACKEND = "xnnpack"
# The backends of this project, and the distribution that each is in.
OURS = {
    **{name: f"qreg-{name}" for name in ("arm", "onnxruntime", "openvino", "xnnpack")},
    "x86_inductor": "qreg-x86-inductor",
    **dict.fromkeys(("ethos_u55", "ethos_u65", "ethos_u85"), "qreg-arm"),
}


class Registry:
    """The backends, configs, annotators and algorithms of a set of plugins.

    Registries are independent: several with different plugins may exist side by side.

    ``plugins`` are in-process plugins by name; ``entry_points`` adds those of the installed
    distributions. ``load`` and ``disable`` name the plugins to load and to skip. ``strict`` makes a
    broken plugin an error. ``trace`` prints each call of a hook. ``cache`` is the folder in which
    lowered programs are kept, empty for none. The defaults of these five are in the environment
    variables ``QREG_LOAD_PLUGINS``, ``QREG_DISABLE_PLUGINS``, ``QREG_STRICT``, ``QREG_TRACE`` and
    ``QREG_CACHE``.

    Raises ``UnknownNameError`` for a plugin in ``load`` that is not installed, ``InputError`` for
    ``plugins`` that are not a dict, and, if ``strict``, ``PluginError`` for a broken one.
    """

    def __init__(
        self,
        plugins: Mapping[str, object] | None = None,
        *,
        entry_points: bool = True,
        load: Iterable[str] | None = None,
        disable: Iterable[str] | None = None,
        strict: bool | None = None,
        trace: bool | None = None,
        cache: str | Path | None = None,
    ) -> None:
        if plugins is not None and not isinstance(plugins, Mapping):
            raise InputError(
                "plugins: they have no names (expected a dict). Pass {name: plugin, ...}."
            )
        self.switches = from_environment(load, disable, strict, trace, cache)
        self._host = PluginHost(plugins or {}, entry_points=entry_points, switches=self.switches)
        self._configs: dict[str, dict[str, Supplied[SupportedConfig]]] = {}
        self._annotators: dict[str, tuple[Supplied[Annotator], ...]] = {}

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        return tuple(self._host.plugins)

    def examine(self) -> None:
        """Call every listing hook, so that the faults of all plugins are known."""
        for name in list(self.backends()):
            for listing in (self.configs, self.annotators):
                try:
                    listing(name)
                except OrderError as cycle:
                    self._blame_for(cycle, name)
                except PluginError:  # the plugin has recorded it
                    if self.switches.strict:
                        raise
        self._examine_algorithms()
        for plugin in self._host.plugins:
            self._examine_extension(plugin)

    def _examine_algorithms(self) -> None:
        """Record a cycle of algorithms as a fault of the plugins in it."""
        try:
            self.algorithms()
        except OrderError as cycle:
            named = {each.value.name: each.source for each in self._all_algorithms}
            for plugin in dict.fromkeys(named[name] for name in cycle.cycle):
                self._host.fault(plugin, f"{cycle}".rstrip("."), hook="qreg_algorithms")

    def _blame_for(self, cycle: OrderError, backend: str) -> None:
        """Record a cycle as a fault of the plugins in it, except the owner of the backend."""
        owner = self.backend(backend).plugin
        named = {each.value.name: each for each in self._unordered(backend)}
        plugins = dict.fromkeys(named[name].source for name in cycle.cycle)
        others = [each for each in plugins if each.name != owner]
        for plugin in others or plugins:
            self._host.fault(plugin, f"{cycle}".rstrip("."), hook="qreg_annotators")

    def _examine_extension(self, plugin: Plugin) -> None:
        """Record the backends that a plugin adds to and that are not installed."""
        for hook in ("qreg_supported_configs", "qreg_annotators"):
            for name in self._host.extends(plugin, hook):
                if name in self._backends:
                    continue
                guesses = " or ".join(map(repr, near(name, self._backends)))
                plugin.unused = f"it adds to the backend {name!r}, which is not installed"
                if guesses:
                    problem = f"it adds to the backend {name!r}, which is unknown (near: {guesses})"
                    self._host.fault(plugin, problem, hook=hook)

    @functools.cached_property
    def _backends(self) -> dict[str, list[Supplied[Backend]]]:
        claims: dict[str, list[Supplied[Backend]]] = {}
        for plugin, backends in self._host.collect("qreg_backends", Backend):
            supplied = [Supplied(backend, plugin) for backend in backends]
            problem = clash(supplied, ())
            if problem is not None:
                self._host.broken(plugin, problem, hook="qreg_backends")
                continue
            for each in supplied:
                claims.setdefault(each.value.name, []).append(each)
        for name, rivals in claims.items():
            if len(rivals) > 1:
                self._host.conflict([each.source for each in rivals], conflict(name, rivals))
        return claims

    def backends(self) -> dict[str, Supplied[Backend]]:
        """Return the available backends: those of working plugins with a single claim."""
        return {
            name: claims[0]
            for name, claims in self._backends.items()
            if len(claims) == 1 and claims[0].source.error is None
        }

    def backend(self, name: str) -> Supplied[Backend]:
        """Return the backend of that name.

        Raises ``PluginError`` if its plugin is broken, ``ConflictError`` if two plugins claim the
        backend, and ``UnknownNameError`` if no plugin does.
        """
        claims = self._backends.get(name, [])
        if len(claims) > 1:
            raise conflict(name, claims)
        if not claims:
            raise self._missing_backend(name)
        fault = claims[0].source.error
        if fault is not None:
            raise fault
        return claims[0]

    def _missing_backend(self, name: str) -> QregError:
        for plugin in self._host.plugins:
            if plugin.name == name and plugin.error is not None:
                return plugin.error
            if plugin.name == name and plugin.left_out is not None:
                remedy = f"A plugin of that name is {plugin.left_out}."
                return UnknownNameError("backend", name, self._backends, remedy)
        return UnknownNameError("backend", name, self._backends, self._advice(name))

    def _advice(self, name: str) -> str:
        """Return the remedy for an unknown backend; it never guesses the name of a distribution."""
        absent = [each for each in near(name, OURS) if each not in self._backends]
        if absent:
            return f"The backend {absent[0]!r} can be installed: pip install {OURS[absent[0]]}"
        broken = [repr(each.name) for each in self._host.plugins if each.error is not None]
        also = f", and what is wrong with {' and '.join(broken)}" if broken else ""
        return f"`qreg list` shows what is installed{also}."

    def configs(self, backend: str) -> dict[str, Supplied[SupportedConfig]]:
        """Return the named configs of a backend, its own plugin's first."""
        if backend not in self._configs:
            self._configs[backend] = self._collect(
                "qreg_supported_configs", SupportedConfig, backend
            )
        return self._configs[backend]

    def config(self, backend: str, name: str) -> SupportedConfig:
        """Return the config of that name; ``"default"`` is the backend's default config."""
        wanted = self.backend(backend).value.default_config if name == DEFAULT else name
        known = self.configs(backend)
        if wanted not in known:
            remedy = f"`qreg ops {backend}` lists what each of them covers."
            raise UnknownNameError(f"config of backend {backend!r}", wanted, known, remedy)
        return known[wanted].value

    def report_fault(self, supplied: Supplied[Any], error: PluginError) -> None:
        """Record a fault of the plugin that supplied something.

        Raises ``PluginError`` if the registry is strict; otherwise warns once.
        """
        self._host.fault(supplied.source, error.problem, error.hook)

    def annotators(self, backend: str) -> tuple[Supplied[Annotator], ...]:
        """Return the annotators of a backend in calling order."""
        if backend not in self._annotators:
            supplied = self._unordered(backend)
            for each in supplied:
                self._check_targets(each)
            self._annotators[backend] = tuple(in_order(supplied, "annotators"))
        return self._annotators[backend]

    def _unordered(self, backend: str) -> list[Supplied[Annotator]]:
        return list(self._collect("qreg_annotators", Annotator, backend).values())

    def _check_targets(self, supplied: Supplied[Annotator]) -> None:
        for target in supplied.value.targets:
            problem = misfit(target)
            if problem is not None:
                problem = f"annotator {supplied.value.name!r}: its target {problem}"
                self._host.fault(supplied.source, problem, hook="qreg_annotators")

    def _collect(
        self, hook: str, expected: type[Listed], backend: str
    ) -> dict[str, Supplied[Listed]]:
        owner = self.backend(backend).plugin
        working = self._host.working
        answers = list(self._host.collect(hook, expected, backend=backend))
        self.backend(backend)  # raises if its own plugin broke just now
        answers.sort(key=lambda answer: answer[0].name != owner)  # stable: the owner goes first
        kept: list[Supplied[Listed]] = []
        for plugin, values in answers:
            supplied = [Supplied(value, plugin) for value in values]
            problem = clash(supplied, kept)
            if problem is None:
                kept += supplied
            else:
                self._host.broken(plugin, f"{problem} for {backend!r}", hook=hook)
        if self._host.working != working:  # a plugin that just broke loses its earlier values
            self._configs.clear()
            self._annotators.clear()
        replaced = {(name, each.plugin) for each in kept for name in replaced_by(each)}
        names = {name for name, _ in replaced}
        return {
            each.value.name: each
            for each in kept
            if each.value.name not in names or (each.value.name, each.plugin) in replaced
        }

    def algorithms(self) -> dict[str, Supplied[Algorithm]]:
        """Return the algorithms of all plugins in the order in which they are tried.

        These are the stages in the order of the pipeline, and in each stage the plugins in the
        order of their names, except as ``before`` and ``after`` require. Raises ``OrderError``.
        """
        ordered = [
            each
            for stage in STAGES
            for each in in_order(
                [one for one in self._all_algorithms if one.value.stage == stage], "algorithms"
            )
        ]
        return {each.value.name: each for each in ordered}

    @functools.cached_property
    def _all_algorithms(self) -> list[Supplied[Algorithm]]:
        kept: list[Supplied[Algorithm]] = []
        for plugin, values in self._host.collect("qreg_algorithms", Algorithm):
            supplied = [Supplied(value, plugin) for value in values]
            problem = clash(supplied, kept)
            if problem is None:
                kept += supplied
            else:
                self._host.broken(plugin, problem, hook="qreg_algorithms")
        return kept

    def check_installed(self, backend: str) -> None:
        """Raise ``BackendUnavailableError`` if something that the backend needs is missing.

        That may be a package, a supported version of a package, or a command.
        """
        others = [supplied.value for supplied in self.backends().values()]
        check_available(self.backend(backend).value, others)

    def call_lower(
        self,
        backend: str,
        program: ExportedProgram | Mapping[str, ExportedProgram],
        options: Mapping[str, Any],
    ) -> Lowered:
        """Call ``qreg_lower`` of each plugin, the backend's own first, until one lowers.

        ``options`` has a value for each option. Raises ``LoweringError``, with the backend's error
        as its cause, if lowering fails.
        """
        owner = self.backend(backend).plugin
        asked = {"backend": backend, "program": program, "options": options}
        for plugin in sorted(self._host.plugins, key=lambda each: each.name != owner):
            lowered = lowered_by(self._host, plugin, asked)
            if lowered is not None:
                return lowered
        raise LoweringError(f"no plugin lowers for backend {backend!r}")


@functools.cache
def installed() -> Registry:
    """Return the registry of the installed plugins, made on first use."""
    return Registry()
