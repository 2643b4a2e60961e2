"""Write a bundle: a whole folder, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg.bundles.data import Data
from qreg.bundles.interface import Interface
from qreg.bundles.manifest import DATA, NAME, RECIPE, REPORT, Manifest, digest
from qreg.errors import BundleError
from qreg.inputs.specs import flat
from qreg.programs.loading import contents_of
from qreg.report.stored import stored
from qreg.utils.files import check_folder_writable, write_folder_atomically
from qreg.verification.runner import outputs_of, repeats_for

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from qreg.graph.boundary import Boundary
    from qreg.plugins.types.program import Lowered
    from qreg.programs.lowering import Target
    from qreg.recipes.recipe import Recipe
    from qreg.report.report import Report

LOWERED = ("delegates", "outside", "changed_inputs")  # what running a program needs to know


@frozen
class Content:
    """What a bundle is made of.

    ``boundary`` has the inputs and outputs of the program that are integers. ``samples`` are in
    float, as the models take them. ``floor`` is the SQNR in dB to the converted model below which
    verification fails, ``min_sqnr`` that of the verdict. ``recipe`` is the recipe, or the reason
    why there is none.
    """

    target: Target
    lowered: Lowered
    report: Report
    recipe: Recipe | str
    reference: GraphModule
    converted: GraphModule
    boundary: Boundary
    samples: Sequence[tuple[Any, ...]]
    floor: float
    min_sqnr: float

    def save(self, folder: Path) -> None:
        """Write the bundle to a folder, which must be empty, a bundle, or not there.

        Without samples, it holds no data. Raises ``BundleError`` for a folder with other files, and
        ``InputError`` for one that cannot be written.
        """
        check_replaceable(folder)
        files = dict(self._files())
        values = {**self._values(), "program": [each for each in files if _is_program(each)]}
        manifest = Manifest(values, {name: digest(each) for name, each in files.items()})
        write_folder_atomically(folder, {**files, NAME: manifest.written()})

    def _files(self) -> Mapping[str, bytes]:
        program = Path(f"program{self.target.backend.suffix}")
        files = contents_of(self.target.supplied, program, self.lowered.program)
        found = {path.name: content for path, content in files.items()}
        found[REPORT] = stored(self.report).encode()
        if not isinstance(self.recipe, str):
            found |= self.recipe.files(Path(RECIPE).stem)
        if self.samples:
            found[DATA] = self._data.written()
        return found

    @property
    def _data(self) -> Data:
        of_float, of_converted = (
            outputs_of(each, self.samples) for each in (self.reference, self.converted)
        )
        return Data([flat(each) for each in self.samples], of_float, of_converted)

    def _values(self) -> dict[str, Any]:
        return {
            "backend": self.target.name,
            "model": self.report.model,
            "lowered": {name: getattr(self.lowered, name) for name in LOWERED},
            "options": dict(self.target.options),
            **Interface.of(self.reference, self.converted, self.boundary).plain(),
            "verification": {
                "samples": len(self.samples),
                "repeats": repeats_for(self.converted),
                "floor": self.floor,
                "min_sqnr": self.min_sqnr,
            },
            "without_recipe": self.recipe if isinstance(self.recipe, str) else None,
        }


def _is_program(name: str) -> bool:
    return Path(name).stem == "program"


def check_replaceable(folder: Path) -> None:
    """Raise ``BundleError`` for a path that something else than a bundle is at.

    Raises ``InputError`` for a folder that cannot be written.
    """
    is_bundle = folder.is_dir() and ((folder / NAME).is_file() or not any(folder.iterdir()))
    if folder.exists() and not is_bundle:
        raise BundleError(
            f"{folder} is there, and is not a bundle (expected an empty folder, a bundle to "
            "replace, or a new name). Choose another name."
        )
    check_folder_writable(folder)
