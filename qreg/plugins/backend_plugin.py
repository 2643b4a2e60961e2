"""Plugins as one object that implements the hooks for one backend.

An entry point names the object, ``mine = "my_module:PLUGIN"``. For several backends, use a module
with hook functions instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen, validators

from qreg.plugins.hookspecs import hookimpl
from qreg.plugins.types.annotator import Annotator
from qreg.plugins.types.backend import Backend, SupportedConfig
from qreg.plugins.types.program import Lowered

if TYPE_CHECKING:
    from torch.export import ExportedProgram


# A function is called when configs are listed, for configs that depend on the processor.
Configs = Sequence[SupportedConfig] | Callable[[], Iterable[SupportedConfig]]


def _listed(configs: Configs) -> Iterable[SupportedConfig]:
    return configs() if callable(configs) else configs


def _annotators(values: Iterable[Annotator]) -> tuple[Annotator, ...]:
    return tuple(values)


@frozen(eq=False)
class Extension:
    """Configs and annotators that a plugin adds to the backend called ``name``.

    ``configs`` is a sequence, or a function that returns one.
    """

    name: str = field(validator=validators.instance_of(str))
    configs: Configs = ()
    annotators: tuple[Annotator, ...] = field(default=(), converter=_annotators)

    @hookimpl
    def qreg_supported_configs(self, backend: str) -> Iterable[SupportedConfig]:
        return _listed(self.configs) if backend == self.name else ()

    @hookimpl
    def qreg_annotators(self, backend: str) -> Iterable[Annotator]:
        return self.annotators if backend == self.name else ()


@frozen(eq=False)
class BackendPlugin:
    """A backend with its configs, its annotators and its lowering.

    ``configs`` is a sequence, or a function that returns one. ``lower`` is called with the program,
    and with the backend's lowering options as keyword arguments.
    """

    backend: Backend = field(validator=validators.instance_of(Backend))
    configs: Configs
    annotators: tuple[Annotator, ...] = field(default=(), converter=_annotators)
    lower: Callable[..., Lowered] | None = field(
        default=None, validator=validators.optional(validators.is_callable())
    )

    @hookimpl
    def qreg_backends(self) -> Iterable[Backend]:
        return (self.backend,)

    @hookimpl
    def qreg_supported_configs(self, backend: str) -> Iterable[SupportedConfig]:
        return _listed(self.configs) if backend == self.backend.name else ()

    @hookimpl
    def qreg_annotators(self, backend: str) -> Iterable[Annotator]:
        return self.annotators if backend == self.backend.name else ()

    @hookimpl
    def qreg_lower(
        self,
        backend: str,
        program: ExportedProgram | Mapping[str, ExportedProgram],
        options: Mapping[str, Any],
    ) -> Lowered | None:
        if self.lower is None or backend != self.backend.name:
            return None
        return self.lower(program, **options)
