"""A backend as its user has set it: what is lowered for, and what loads what was lowered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from qreg.errors import InputError
from qreg.model import Backend, Lowered
from qreg.options import complete, given_to
from qreg.registry import Registry

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from qreg.model import Runner


@frozen
class Target:
    """A backend of a registry, with a value for each of its options."""

    registry: Registry = field(repr=False)
    backend: Backend
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def load(self) -> Callable[[bytes], Runner] | None:
        """Loads a program with the options that are for this; None if nothing runs here."""
        chosen = given_to(self.backend, self.options, "load")
        load = self.backend.load
        return partial(load, **chosen) if load and chosen else load

    @property
    def loader(self) -> Callable[[bytes], Runner]:
        """As ``load``; raises ``InputError`` for a backend that only compiles."""
        if self.load is None:
            raise InputError(f"backend {self.name!r} only compiles: no program of it runs here")
        return self.load

    def lower(self, program: ExportedProgram) -> Lowered:
        """Raises ``LoweringError`` with the backend's own error as its cause if that fails."""
        chosen = given_to(self.backend, self.options, "lower")
        return self.registry.lower(self.name, program, chosen)


def target(registry: Registry, backend: str, options: Mapping[str, Any] | None = None) -> Target:
    """The backend of that name, with options; what it needs is there.

    Raises ``UnknownNameError`` for a backend or an option that there is none of, ``InputError`` for
    a value that an option does not take, and ``BackendUnavailableError`` for what is missing.
    """
    found: Backend = registry.backend(backend).value
    chosen = complete(found, options or {})
    registry.check_installed(backend)
    return Target(registry, found, chosen)
