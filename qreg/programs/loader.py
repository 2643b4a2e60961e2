"""Load programs in the runtime of a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from qreg.errors import LoadError, QregError, RunError, VerificationError
from qreg.graph.boundary import Boundary

if TYPE_CHECKING:
    from torch import Tensor

    from qreg.plugins.types.backend import Runner


@frozen
class Loader:
    """Load programs in the runtime of a backend, with the options of its user.

    ``function`` is for programs with one method. ``of_methods`` is for others, and ``method`` is
    the method that is run; None for a program with one. ``origin`` is the name of the plugin's
    function in errors. ``boundary`` has the inputs and outputs that are integers in the program and
    float in what a call accepts and returns, and ``changed`` is the number of inputs that the
    program changes.
    """

    function: Callable[..., Runner]
    options: Mapping[str, Any]
    origin: str
    of_methods: Callable[..., Mapping[str, Runner]] | None = None
    method: str | None = None
    boundary: Boundary = field(factory=Boundary)
    changed: int = 0

    def in_float(self, boundary: Boundary, changed: int) -> Loader:
        """Return a loader whose functions accept and return the float tensors of the model."""
        return evolve(self, boundary=boundary, changed=changed)

    def __call__(self, program: bytes) -> Runner:
        """Return a function from the flat input tensors to the flat output tensors.

        Raises ``LoadError`` with the runtime's error as its cause if loading fails, and if the
        program does not have the method. The function raises ``RunError`` in the same way; both are
        ``VerificationError``.
        """
        if self.method is None:
            return self._attributed(self._loaded(self.function, program))
        found = self.methods(program)
        if self.method not in found:
            raise LoadError(
                f"the lowered program has no method {self.method!r} (expected "
                f"{' or '.join(map(repr, sorted(found)))})"
            )
        return found[self.method]

    def methods(self, program: bytes) -> dict[str, Runner]:
        """Return the function of each method of a program by name; they share its state.

        A program of a backend whose programs have one method has the name ``"forward"``. Raises as
        a call.
        """
        if self.of_methods is None:
            return {"forward": self._attributed(self._loaded(self.function, program))}
        found = self._loaded(self.of_methods, program)
        return {name: self._attributed(run) for name, run in dict(found).items()}

    def _loaded(self, function: Callable[..., Any], program: bytes) -> Any:
        try:
            return function(program, **self.options)
        except VerificationError:
            raise
        except Exception as cause:  # raised by the runtime
            raise LoadError(
                f"the lowered program does not load: {cause} (in {self.origin})"
            ) from cause

    def _attributed(self, run: Runner) -> Runner:
        """Return the same function, with errors attributed to the plugin."""
        if not callable(run):
            raise LoadError(
                f"the lowered program was loaded as {run!r}, not as a function (in {self.origin})"
            )

        def attributed(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
            try:
                outputs = run(list(self.boundary.taken(tuple(inputs))))
            except QregError:
                raise
            except Exception as cause:  # raised by the runtime
                raise RunError(
                    f"the lowered program does not run: {cause} (in what {self.origin} returned)"
                ) from cause
            return self.boundary.outputs_in_float(outputs, self.changed)

        return attributed
