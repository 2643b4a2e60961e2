"""The subject of a suite: one plugin, the backend that it adds to, and samples for its values.

The registry contains only this plugin, the owner of the backend, and the plugins named in ``also``.
Other installed plugins do not affect the results of a suite.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeAlias

from attrs import define, evolve, field, frozen
from torch.nn import Module

from qreg.inputs.specs import arguments
from qreg.plugins.manager import PluginWarning
from qreg.plugins.plugin import Plugin
from qreg.plugins.registry import Registry
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.algorithm import Algorithm
from qreg.plugins.types.annotator import Annotator
from qreg.plugins.types.backend import Backend, SupportedConfig


def _strings(values: str | Iterable[str]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)


@frozen(eq=False)  # a key of caches
class Sample:
    """A small module that an annotator, config, backend or algorithm is for, and its inputs.

    ``inputs`` is a tuple of tensors, or a lone tensor. ``configs`` are the names of the configs to
    test an annotator with; by default one config for each of its modes that the backend has.
    """

    module: Module
    inputs: tuple[Any, ...] = field(converter=arguments)
    configs: tuple[str, ...] = field(default=(), converter=_strings)
    dynamic_shapes: Any = None


Samples: TypeAlias = Mapping[str, "Sample | Sequence[Sample]"]


@define(slots=False, eq=False)
class Subject:
    """The plugin of a suite, its values, and the samples for them.

    ``also`` names other plugins that the suite requires.
    """

    plugin: str
    backend: str
    samples: Samples
    also: Sequence[str] = ()

    @cached_property
    def registry(self) -> Registry:
        """A registry in which a broken plugin is skipped instead of raising an error."""
        return self.fresh_registry()

    @cached_property
    def strict_registry(self) -> Registry:
        """The same registry, except that an annotator that fails raises an error."""
        registry = copy.copy(self.registry)
        registry.switches = evolve(registry.switches, strict=True)
        return registry

    def fresh_registry(self, plugins: Mapping[str, object] | None = None) -> Registry:
        """Return a registry of the plugins of this suite, and of in-process plugins."""
        load = [*self.plugins, *(plugins or {})]
        with _without_warnings():
            registry = Registry(plugins, load=load, disable=(), strict=False, trace=False)
            registry.examine()
        return registry

    @cached_property
    def plugins(self) -> list[str]:
        """The names of this plugin, the owner of the backend, and the plugins in ``also``."""
        with _without_warnings():
            everything = Registry(disable=(), strict=False, trace=False)
            installed = sorted(plugin.name for plugin in everything.plugins)
            owner = everything.backends().get(self.backend)
        assert self.plugin in installed, (
            f"no installed plugin is called {self.plugin!r}, only {', '.join(installed)}. Install "
            "yours with `pip install -e .`, and set `plugin` in the suite to the name of its entry "
            "point under [project.entry-points.qreg]"
        )
        owners = [owner.plugin] if owner else []
        return list(dict.fromkeys([self.plugin, *owners, *self.also]))

    @property
    def loaded(self) -> Plugin:
        return next(each for each in self.registry.plugins if each.name == self.plugin)

    @property
    def annotators(self) -> dict[str, Annotator]:
        """The annotators of this plugin, by name."""
        known = self.backend in self.registry.backends()
        return self._mine(self.registry.annotators(self.backend) if known else ())

    @property
    def configs(self) -> dict[str, SupportedConfig]:
        """The configs of this plugin, by name."""
        known = self.backend in self.registry.backends()
        return self._mine(self.registry.configs(self.backend).values() if known else ())

    @property
    def backends(self) -> dict[str, Backend]:
        """The backends of this plugin, by name."""
        return self._mine(self.registry.backends().values())

    @property
    def algorithms(self) -> dict[str, Algorithm]:
        """The algorithms of this plugin, by name."""
        return self._mine(self.registry.algorithms().values())

    def _mine(self, supplied: Iterable[Supplied[Any]]) -> dict[str, Any]:
        return {each.value.name: each.value for each in supplied if each.plugin == self.plugin}

    def samples_of(self, name: str) -> list[Sample]:
        """Return the samples under a name; empty if there are none."""
        found = self.samples.get(name, ())
        return [found] if isinstance(found, Sample) else list(found)

    def cases(self, annotator: str) -> Iterator[tuple[Sample, SupportedConfig]]:
        """Yield each sample of an annotator with each config to try it with."""
        usual = list(self.configs_for(self.annotators[annotator]))
        for sample in self.samples_of(annotator):
            named = [self.registry.config(self.backend, name) for name in sample.configs]
            for config in named or usual:
                yield sample, config

    def configs_for(self, annotator: Annotator) -> Iterator[SupportedConfig]:
        """Yield one config for each mode of an annotator, preferring the backend's default."""
        default = self.registry.backend(self.backend).value.default_config
        known = [each.value for each in self.registry.configs(self.backend).values()]
        known.sort(key=lambda config: config.name != default)
        for mode in sorted(annotator.modes):
            yield from [config for config in known if config.mode == mode][:1]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore warnings of plugins, which tests read from the registry, under any pytest filter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)
        yield
