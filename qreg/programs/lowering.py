"""A backend with the options of its user: lowering a program, and loading it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from qreg.errors import InputError, LoadError, QregError, RunError, VerificationError
from qreg.plugins.options import complete, given_to
from qreg.plugins.registry import Registry
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.backend import Backend
from qreg.plugins.types.program import Lowered
from qreg.programs.shortcuts import shortcuts
from qreg.programs.stateless import check_state
from qreg.programs.tensors_only import tensors_only

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from qreg.plugins.types.backend import Runner


@frozen
class Loader:
    """Load programs in the runtime of a backend, with the options of its user.

    ``origin`` is the name of the plugin's function in errors.
    """

    function: Callable[..., Runner]
    options: Mapping[str, Any]
    origin: str

    def __call__(self, program: bytes) -> Runner:
        """Return a function from the flat input tensors to the flat output tensors.

        Raises ``LoadError`` with the runtime's error as its cause if loading fails. The function
        raises ``RunError`` in the same way; both are ``VerificationError``.
        """
        try:
            run = self.function(program, **self.options)
        except VerificationError:
            raise
        except Exception as cause:  # raised by the runtime
            raise LoadError(
                f"the lowered program does not load: {cause} (in {self.origin})"
            ) from cause
        if not callable(run):
            raise LoadError(
                f"the lowered program was loaded as {run!r}, not as a function (in {self.origin})"
            )
        return self._attributed(run)

    def _attributed(self, run: Runner) -> Runner:
        """Return the same function, with errors attributed to the plugin."""

        def attributed(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
            try:
                return run(inputs)
            except QregError:
                raise
            except Exception as cause:  # raised by the runtime
                raise RunError(
                    f"the lowered program does not run: {cause} (in what {self.origin} returned)"
                ) from cause

        return attributed


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
    def supplied(self) -> Supplied[Backend]:
        """The backend, with the plugin and the distribution that errors are attributed to."""
        return self.registry.backend(self.name)

    @property
    def load(self) -> Loader | None:
        """The loader with the options for loading; None if the backend only compiles."""
        if self.backend.load is None:
            return None
        options = given_to(self.backend, self.options, "load")
        return Loader(self.backend.load, options, f"load of {self.supplied.source.origin}")

    @property
    def loader(self) -> Loader:
        """The loader, as ``load``. Raises ``InputError`` for a backend that only compiles."""
        load = self.load
        if load is None:
            raise InputError(f"backend {self.name!r} only compiles: its programs do not run here")
        return load

    def lower(self, program: ExportedProgram) -> Lowered:
        """Lower a program with the options for lowering; the graph of the program may be changed.

        Raises ``StateError`` for a program with state if the backend's programs do not keep state,
        and ``LoweringError`` with the backend's error as its cause if lowering fails.
        """
        check_state(self.backend, program)
        chosen = given_to(self.backend, self.options, "lower")
        with shortcuts():
            return self.registry.call_lower(self.name, tensors_only(program), chosen)


def target(registry: Registry, backend: str, options: Mapping[str, Any] | None = None) -> Target:
    """Return the backend of that name, with options, after checking that its packages are there.

    Raises ``UnknownNameError`` for an unknown backend or option, ``InputError`` for a value that an
    option does not accept, and ``BackendUnavailableError`` for missing packages or tools.
    """
    found = registry.backend(backend).value
    chosen = complete(found, options or {})
    registry.check_installed(backend)
    return Target(registry, found, chosen)
