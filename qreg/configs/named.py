"""Create the named configs of a backend, and attribute invalid configs to their plugins."""

from __future__ import annotations

from torchao.quantization.pt2e.quantizer import QuantizationConfig

from qreg.configs.validation import check
from qreg.errors import ConfigError, PluginError
from qreg.plugins.blame import blamed, call
from qreg.plugins.registry import Registry
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.backend import SupportedConfig


def made_config(registry: Registry, backend: str, name: str) -> QuantizationConfig:
    """Return the config that the factory of a named config creates.

    Raises ``UnknownNameError`` for an unknown name, and ``PluginError`` for a factory that raises
    or does not return a valid config.
    """
    return _made(registry.configs(backend)[registry.config(backend, name).name])


def made_configs(registry: Registry, backend: str) -> dict[str, QuantizationConfig]:
    """Return the named configs of a backend, except those whose factory fails.

    A failing factory is recorded as a fault of its plugin. Raises ``PluginError`` for such a
    factory if the registry is strict.
    """
    made = {}
    for name, supplied in registry.configs(backend).items():
        try:
            made[name] = _made(supplied)
        except PluginError as error:
            registry.report_fault(supplied, error)
    return made


def _made(supplied: Supplied[SupportedConfig]) -> QuantizationConfig:
    role = f"the factory of config {supplied.value.name!r}"
    made = call(supplied, role, supplied.value.factory, expected=QuantizationConfig)
    try:
        return check(made)
    except ConfigError as error:
        raise blamed(supplied, role, str(error)) from error
