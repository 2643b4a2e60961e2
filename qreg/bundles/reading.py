"""Read a bundle, without executing anything in it."""

from __future__ import annotations

from pathlib import Path

from qreg.bundles.bundle import Bundle
from qreg.bundles.data import Check, Data, read_data
from qreg.bundles.interface import Interface
from qreg.bundles.manifest import DATA, RECIPE, REPORT, damaged, read_files, read_manifest
from qreg.plugins.registry import Registry
from qreg.plugins.types.program import Lowered
from qreg.recipes.recipe import Recipe
from qreg.report.stored import restored


def load(path: str | Path, *, registry: Registry | None = None) -> Bundle:
    """Read what ``result.save_bundle`` wrote: a program to run, verify and explain again.

    Nothing in the files is executed; the backend's runtime loads the program when it is run or
    verified. ``registry`` replaces that of the installed plugins.

    Raises ``BundleError`` for a folder that is not a bundle, for one of a newer version, and, with
    the name of the file, for files that are missing or were changed.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    values, files = manifest.values, read_files(folder, manifest.files)
    for name in (*values["program"], REPORT):
        if name not in files:
            raise damaged(folder, f"its manifest lists no file {name}")
    try:
        interface, check = Interface.read(values), Check(**values["verification"])
        return Bundle(
            folder,
            values["backend"],
            values["model"],
            report=restored(files[REPORT].decode()),
            recipe=Recipe.load(folder / RECIPE) if RECIPE in files else None,
            options=values["options"],
            interface=interface,
            lowered=Lowered(b"", **values["lowered"]),
            program={Path(name): files[name] for name in values["program"]},
            check=check,
            data=_data(files[DATA], check, interface) if DATA in files else None,
            registry=registry,
        )
    except (ValueError, KeyError, TypeError) as cause:
        raise damaged(folder, f"its values cannot be read: {cause}") from cause


def _data(content: bytes, check: Check, interface: Interface) -> Data:
    signature = interface.signature
    return read_data(content, check.samples, len(signature.inputs), len(signature.outputs))
