"""A backend with the options of its user, which lowers programs and loads them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from qreg.errors import InputError, LoweringError
from qreg.plugins.options import complete, given_to
from qreg.plugins.registry import Registry
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.backend import Backend
from qreg.plugins.types.program import Lowered
from qreg.programs.loader import Loader
from qreg.programs.methods import check_shared
from qreg.programs.shortcuts import shortcuts
from qreg.programs.stateless import check_state
from qreg.programs.tensors_only import tensors_only

if TYPE_CHECKING:
    from torch.export import ExportedProgram


@frozen
class Target:
    """A backend of a registry, with a value for each of its options.

    ``method`` is the method that is loaded, of a program with several.
    """

    registry: Registry = field(repr=False)
    backend: Backend
    options: Mapping[str, Any]
    method: str | None = None

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def supplied(self) -> Supplied[Backend]:
        """The backend, with the plugin and the distribution that errors are attributed to."""
        return self.registry.backend(self.name)

    @property
    def load(self) -> Loader | None:
        """The loader with the options for loading; None if the backend only compiles."""
        if self.backend.load is None:
            return None
        options = given_to(self.backend, self.options, "load")
        origin = f"load of {self.supplied.source.origin}"
        of_methods = self.backend.load_methods
        return Loader(self.backend.load, options, origin, of_methods, self.method)

    @property
    def loader(self) -> Loader:
        """The loader, as ``load``. Raises ``InputError`` for a backend that only compiles."""
        load = self.load
        if load is None:
            raise InputError(f"backend {self.name!r} only compiles: its programs do not run here")
        return load

    def of_method(self, name: str | None) -> Target:
        """Return the same, for one method of programs with several; None for programs with one.

        Raises ``InputError`` if programs of the backend have one method.
        """
        if name is not None and self.backend.load_methods is None:
            raise InputError(
                f"backend {self.name!r}: its programs have one method (expected no {name!r}). "
                "Make a program for each method."
            )
        return evolve(self, method=name)

    def lower(self, program: ExportedProgram) -> Lowered:
        """Lower a program with the options for lowering; the graph of the program may be changed.

        Raises ``StateError`` for a program with state if the backend's programs do not keep state,
        and ``LoweringError`` with the backend's error as its cause if lowering fails.
        """
        return self._lower(self._checked(program))

    def lower_methods(
        self, programs: Mapping[str, ExportedProgram], reads: Mapping[str, Collection[str]]
    ) -> Lowered:
        """Lower programs as the methods of one, whose parts are ``methods`` of the result.

        ``reads`` are the names of the buffers that each uses in its model, ahead of folding.

        Raises ``InputError`` if programs of the backend have one method, or if methods do not agree
        on the state that they share, and otherwise as :meth:`lower`.
        """
        for name in programs:
            self.of_method(name)
        check_shared(programs, reads)
        lowered = self._lower({name: self._checked(each) for name, each in programs.items()})
        if set(lowered.methods) != set(programs):
            raise LoweringError(
                f"backend {self.name!r} lowered the methods {sorted(lowered.methods)} (expected "
                f"{sorted(programs)})"
            )
        return lowered

    def _checked(self, program: ExportedProgram) -> ExportedProgram:
        check_state(self.backend, program)
        return tensors_only(program)

    def _lower(self, given: ExportedProgram | Mapping[str, ExportedProgram]) -> Lowered:
        chosen = given_to(self.backend, self.options, "lower")
        with shortcuts():
            return self.registry.call_lower(self.name, given, chosen)


def target(registry: Registry, backend: str, options: Mapping[str, Any] | None = None) -> Target:
    """Return the backend of that name, with options, after checking that its packages are there.

    Raises ``UnknownNameError`` for an unknown backend or option, ``InputError`` for a value that an
    option does not accept, and ``BackendUnavailableError`` for missing packages or tools.
    """
    found = registry.backend(backend).value
    chosen = complete(found, options or {})
    registry.check_installed(backend)
    return Target(registry, found, chosen)
