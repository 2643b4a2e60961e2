"""A bundle that was read: a program to run, verify and explain, without its model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from qreg.bundles.data import Check, Data
from qreg.bundles.interface import Interface
from qreg.errors import InputError
from qreg.inputs.batches import BY_HAND, called_with, placed
from qreg.inputs.program_signature import ProgramSignature
from qreg.plugins.registry import Registry, installed
from qreg.plugins.types.program import Lowered
from qreg.programs.loading import joined, write_program
from qreg.programs.lowering import Target, target
from qreg.recipes.recipe import Recipe
from qreg.report.report import Report
from qreg.verification.runner import run_once, run_program
from qreg.verification.verdict import warn_if_poor
from qreg.verification.verify import Verification, compared

if TYPE_CHECKING:
    from qreg.plugins.types.backend import Runner


@frozen
class Bundle:
    """A program with its report, recipe and signature, read from a folder by :func:`qreg.load`.

    ``path`` is the folder. ``report`` is that of the result when it was saved, with its provenance.
    ``recipe`` is None if the quantizer had a part that a recipe cannot hold. ``options`` are those
    of the backend. The backend must be installed to run the program, and not to read the report.
    """

    path: Path
    backend: str
    model: str
    report: Report = field(repr=False)
    recipe: Recipe | None = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    _interface: Interface = field(repr=False)
    _lowered: Lowered = field(repr=False)  # without its program
    _program: Mapping[Path, bytes] = field(repr=False)
    _check: Check = field(repr=False)
    _data: Data | None = field(repr=False)
    _registry: Registry | None = field(repr=False)
    _loaded: dict[str, Runner] = field(init=False, repr=False, eq=False, factory=dict)

    @property
    def signature(self) -> ProgramSignature:
        """The names, shapes and dtypes of the inputs and outputs."""
        return self._interface.signature

    @property
    def program(self) -> bytes:
        """The program. Raises ``UnknownNameError`` if its backend is not installed."""
        return joined((self._registry or installed()).backend(self.backend), self._program)

    @property
    def _target(self) -> Target:
        return target(self._registry or installed(), self.backend, self.options)

    @property
    def _whole(self) -> Lowered:
        return evolve(self._lowered, program=self.program)

    def run(self, *inputs: Any, **named: Any) -> Any:
        """Run the program, as :meth:`qreg.Result.run` does.

        Outputs have the structure that the model returns. Types that only the model's code has are
        dicts of their fields, or tuples.
        """
        given = placed(
            called_with(inputs, named), self._interface.accepted, "run()", remedy=BY_HAND
        )
        if "program" not in self._loaded:
            self._loaded["program"] = self._target.loader(self.program)
        outputs = run_once(self._loaded["program"], self._whole, given)
        return self._interface.returned(outputs)

    def verify(self) -> Verification:
        """Run the program on the inputs in the bundle, and compare it with both models' outputs.

        The outputs of the float and the converted model were computed when the bundle was saved. A
        program below ``min_sqnr`` is returned with a :class:`~qreg.errors.QualityWarning`.

        Raises ``VerificationError`` as :func:`qreg.quantize`, and ``InputError`` for a bundle
        without data and for a backend that only compiles.
        """
        if self._data is None:
            raise InputError(
                f"{self.path}: it was saved without data (expected inputs and outputs to verify "
                "with). Save it with data=True, or pass the model and inputs to qreg.verify."
            )
        known, goal = self._check, self._target
        samples = [tuple(each) for each in self._data.inputs]
        loader = goal.loader.in_float(self._interface.boundary, self._lowered.changed_inputs)
        outputs = run_program(loader, self._whole, samples, known.repeats)
        found = compared(
            outputs,
            self._data.of_float,
            self._data.of_converted,
            runtime=goal.backend.runtime,
            floor=known.floor,
            min_sqnr=known.min_sqnr,
        )
        warn_if_poor(found)
        return found

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    def save(self, path: str | Path) -> None:
        """Write the program to a file, as :meth:`qreg.Result.save` does."""
        write_program(self._target.supplied, Path(path), self.program)
