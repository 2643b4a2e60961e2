"""A folder that keeps the trials of a search, so that one that was stopped goes on.

A trial is stored under the hash of everything that its program depends on: the model, the data, the
variant, and the versions of the packages. The same question is never computed twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen
from filelock import FileLock, Timeout

from qreg.errors import InputError
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.backend import Backend
from qreg.programs.loading import paths, read_lowered, write_program
from qreg.recipes.recipe import Recipe
from qreg.report.values import plain
from qreg.tuning.making import Product
from qreg.tuning.patterns import Pattern
from qreg.tuning.values import Place, Trial, Variant
from qreg.utils.files import write_atomically

IDENTITY = "tune.json"
RECIPE = "recipe.toml"


@frozen
class Store:
    """A folder of trials.

    ``identity`` is what all trials of it have in common. ``versions`` returns those of the packages
    that make the programs of a backend, by its name.
    """

    folder: Path
    identity: Mapping[str, str]
    versions: Callable[[str], Mapping[str, str]]

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Lock the folder, and check that its trials are of the same search.

        Raises ``InputError`` for a folder that another process uses, that is of another search, or
        that cannot be written.
        """
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            with lock:
                self._check()
                yield
        except Timeout as cause:
            raise InputError(
                f"work folder {self.folder}: another process uses it (expected one search in a "
                "folder). Wait for it, or name another folder"
            ) from cause

    def _check(self) -> None:
        path = self.folder / IDENTITY
        if not path.exists():
            visible = [each.name for each in self.folder.iterdir() if each.name[0] != "."]
            if visible:
                raise InputError(
                    f"work folder {self.folder}: it has files that are not of a search, such as "
                    f"{min(visible)!r} (expected an empty folder). Name another folder"
                )
            self._write(path, {**self.identity})
            return
        known = _read(path)
        for name, value in self.identity.items():
            if known.get(name) != value:
                raise InputError(
                    f"work folder {self.folder}: it is of a search with another {name} "
                    f"({known.get(name)}, expected {value}). Name another folder"
                )

    def trial(self, variant: Variant) -> Trial | None:
        """Return the stored trial of a variant; None if there is none.

        One whose ``evaluate`` raised is made again: that may depend on what is not stored, such as
        files.
        """
        path = self._place(variant) / "trial.json"
        found = _trial(_read(path), variant) if path.exists() else None
        return None if found and found.evaluated and found.metric is None else found

    def keep(self, trial: Trial, product: Product | None, supplied: Supplied[Backend]) -> None:
        """Store a trial with its program, report and recipe; ``supplied`` is its backend."""
        place = self._place(trial.variant)
        with _writing(self.folder):
            place.mkdir(parents=True, exist_ok=True)
            if product is not None:
                name = f"program{supplied.value.suffix}"
                write_program(supplied, place / name, product.program)
                product.report.save_html(place / "report.html")
                product.report.save_json(place / "report.json")
                product.recipe.save(place / RECIPE)
            # the last file: a trial without it is made again
            self._write(place / "trial.json", attrs.asdict(trial))

    def program(self, trial: Trial, supplied: Supplied[Backend]) -> bytes:
        """Return the stored program of a trial."""
        return read_lowered(
            supplied, self._place(trial.variant) / f"program{supplied.value.suffix}"
        )

    def float_metric(self, measure: Callable[[], float]) -> float:
        """Return the stored metric of the float model, which is measured only once."""
        path = self.folder / "float.json"
        if not path.exists():
            self._write(path, {"metric": measure()})
        return float(_read(path)["metric"])

    def keep_best(self, trial: Trial, supplied: Supplied[Backend]) -> None:
        """Copy the program of a trial, and its recipe, to ``best`` with their suffixes.

        A program of another backend that was the best before is removed.
        """
        suffix, place = supplied.value.suffix, self._place(trial.variant)
        program, best = self.program(trial, supplied), self.folder / "best"
        with _writing(self.folder):
            write_program(supplied, best.with_suffix(suffix), program)
            Recipe.load(place / RECIPE).save(best.with_suffix(".toml"))
            recipe = (best.with_suffix(".toml"), best.with_suffix(".safetensors"))
            wanted = {*paths(supplied.value, best.with_suffix(suffix)), *recipe}
            for other in set(self.folder.glob("best.*")) - wanted:
                other.unlink()

    def patterns(self, variant: Variant) -> tuple[list[Pattern], list[str]] | None:
        """Return the stored patterns of a variant, and the notes on them; None without any."""
        path = self._place(variant) / "patterns.json"
        if not path.exists():
            return None
        stored = _read(path)
        return [_pattern(each) for each in stored["patterns"]], stored["notes"]

    def keep_patterns(self, variant: Variant, patterns: list[Pattern], notes: list[str]) -> None:
        """Store the patterns of a variant, with their noises, and the notes on them."""
        plainly = [attrs.asdict(each, value_serializer=plain) for each in patterns]
        content = {"patterns": plainly, "notes": notes}
        self._write(self._place(variant) / "patterns.json", content)

    def report(self, variant: Variant) -> Path | None:
        """Return the path of the page of a trial's report; None if there is none."""
        path = self._place(variant) / "report.html"
        return path if path.exists() else None

    def _place(self, variant: Variant) -> Path:
        versions = sorted(self.versions(variant.backend).items())
        text = json.dumps([variant.key, sorted(self.identity.items()), versions])
        return self.folder / "trials" / hashlib.sha256(text.encode()).hexdigest()[:16]

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        with _writing(self.folder):
            write_atomically(path, json.dumps(content, indent=2).encode())


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn an error of the file system into an ``InputError``; what is complete is kept."""
    try:
        yield
    except OSError as cause:
        raise InputError(
            f"work folder {folder}: it cannot be written: {cause}. Trials that are complete are "
            "kept: name the folder again once it can be"
        ) from cause


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise InputError(
            f"work folder: {path} cannot be read: {cause} (expected JSON that qreg wrote). Remove "
            "the file to make the trial again"
        ) from cause
    return found


def _trial(stored: Mapping[str, Any], variant: Variant) -> Trial:
    rest = {name: value for name, value in stored.items() if name != "variant"}
    rest["kept"] = tuple(rest["kept"])
    rest["culprits"] = tuple(Place(**each) for each in rest["culprits"])
    return Trial(variant, **rest)


def _pattern(stored: Mapping[str, Any]) -> Pattern:
    places = tuple(Place(**each) for each in stored["places"])
    return Pattern(**{**stored, "names": tuple(stored["names"]), "places": places})
