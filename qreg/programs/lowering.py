"""A backend as its user has set it: what is lowered for, and what loads what was lowered."""

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
from qreg.programs.stateless import check_state

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from qreg.plugins.types.backend import Runner


@frozen
class Loader:
    """Loads programs in the runtime of a backend, with the options that its user has set.

    ``origin`` is what errors call the plugin's function.
    """

    function: Callable[..., Runner]
    options: Mapping[str, Any]
    origin: str

    def __call__(self, program: bytes) -> Runner:
        """A function from the flat input tensors to the flat output tensors.

        Raises ``VerificationError`` with the runtime's own error as its cause, if that fails. The
        function raises ``RunError`` in the same way.
        """
        try:
            run = self.function(program, **self.options)
        except VerificationError:
            raise
        except Exception as cause:
            raise LoadError(
                f"the lowered program does not load: {cause} (in {self.origin})"
            ) from cause
        if not callable(run):
            raise LoadError(
                f"the lowered program was loaded as {run!r}, not as a function (in {self.origin})"
            )
        return self._attributed(run)

    def _attributed(self, run: Runner) -> Runner:
        """The same function, with the plugin's name on what it raises."""

        def attributed(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
            try:
                return run(inputs)
            except QregError:
                raise
            except Exception as cause:
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
        """Loads a program with the options that are for this; None if nothing runs here."""
        if self.backend.load is None:
            return None
        options = given_to(self.backend, self.options, "load")
        return Loader(self.backend.load, options, f"load of {self.supplied.source.origin}")

    @property
    def loader(self) -> Loader:
        """As ``load``; raises ``InputError`` for a backend that only compiles."""
        load = self.load
        if load is None:
            raise InputError(f"backend {self.name!r} only compiles: no program of it runs here")
        return load

    def lower(self, program: ExportedProgram) -> Lowered:
        """Lower a program with the options that are for this.

        Raises ``StateError`` for a program with state where programs keep none, and
        ``LoweringError`` with the backend's own error as its cause if lowering fails.
        """
        check_state(self.backend, program)
        chosen = given_to(self.backend, self.options, "lower")
        return self.registry.call_lower(self.name, program, chosen)


def target(registry: Registry, backend: str, options: Mapping[str, Any] | None = None) -> Target:
    """The backend of that name, with options; what it needs is there.

    Raises ``UnknownNameError`` for a backend or an option that there is none of, ``InputError`` for
    a value that an option does not take, and ``BackendUnavailableError`` for what is missing.
    """
    found = registry.backend(backend).value
    chosen = complete(found, options or {})
    registry.check_installed(backend)
    return Target(registry, found, chosen)
