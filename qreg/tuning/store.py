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
from qreg.programs.loading import contents_of, paths, read_lowered
from qreg.recipes.recipe import Recipe
from qreg.recipes.renaming import is_whole, renamed_files
from qreg.report.values import plain
from qreg.tuning.making import Product
from qreg.tuning.patterns import Pattern
from qreg.tuning.stored import files_in, metric_in, patterns_in, trial_in, values_in
from qreg.tuning.values import Trial, Variant
from qreg.utils.files import unfinished, write_all_atomically, write_atomically

IDENTITY = "tune.json"
RECIPE = "recipe.toml"
TRIAL = "trial.json"
FLOAT = "float.json"
OWN = (".best.", f".{FLOAT}.", f".{IDENTITY}.")  # how temporary files begin


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
            self._check_own()
            lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            with lock:
                self._check()
                self._remove_unfinished()
                yield
        except Timeout as cause:
            raise InputError(
                f"work folder {self.folder}: another process uses it (expected one search in a "
                "folder). Wait for it, or name another folder"
            ) from cause

    def _check_own(self) -> None:
        visible = [each.name for each in self.folder.iterdir() if each.name[0] != "."]
        if visible and IDENTITY not in visible:
            raise InputError(
                f"work folder {self.folder}: it has files that are not of a search, such as "
                f"{min(visible)!r} (expected an empty folder). Name another folder"
            )

    def _check(self) -> None:
        path = self.folder / IDENTITY
        known = values_in(path) if path.exists() else {}
        differing = [each for each in self.identity if known.get(each) != self.identity[each]]
        if differing and not self._is_empty():
            name = differing[0]
            raise InputError(
                f"work folder {self.folder}: it is of a search with another {name} "
                f"({known.get(name)}, expected {self.identity[name]}). Name another folder"
            )
        if differing:  # also of a search that ended at its first evaluation
            self._write(path, {**self.identity})

    def _is_empty(self) -> bool:
        """Whether nothing was computed: neither the metric of the float model nor a trial."""
        return not (self.folder / FLOAT).exists() and not any(self.folder.glob("trials/*"))

    def _remove_unfinished(self) -> None:
        """Remove the temporary files of a process that was killed while it wrote them."""
        with _writing(self.folder):
            own = [each for each in unfinished(self.folder) if each.name.startswith(OWN)]
            places = self.folder.glob("trials/*/")
            for path in (*own, *(each for place in places for each in unfinished(place))):
                path.unlink(missing_ok=True)

    def trial(self, variant: Variant) -> Trial | None:
        """Return the stored trial of a variant; None if there is none.

        One whose ``evaluate`` raised is made again: that may depend on what is not stored, such as
        files. So is one whose program or recipe was removed, or whose program was changed.
        """
        place = self._place(variant)
        if not (place / TRIAL).exists():
            return None
        found = trial_in(place / TRIAL, variant)
        lacks = found.bytes is not None and not (
            is_whole(place / RECIPE) and _are_same(place, files_in(place / TRIAL))
        )
        return None if lacks or (found.evaluated and found.metric is None) else found

    def keep(self, trial: Trial, product: Product | None, supplied: Supplied[Backend]) -> None:
        """Store a trial with its program, report and recipe; ``supplied`` is its backend."""
        place, files = self._place(trial.variant), {}
        with _writing(self.folder):
            place.mkdir(parents=True, exist_ok=True)
            if product is not None:
                name = f"program{supplied.value.suffix}"
                program = contents_of(supplied, place / name, product.program)
                write_all_atomically(program)
                files = {each.name: _digest(data) for each, data in program.items()}
                product.report.save_html(place / "report.html")
                product.report.save_json(place / "report.json")
                product.recipe.save(place / RECIPE)
            # the last file: a trial without it is made again
            self._write(place / TRIAL, {**attrs.asdict(trial), "files": files})

    def program(self, trial: Trial, supplied: Supplied[Backend]) -> bytes:
        """Return the stored program of a trial."""
        return read_lowered(
            supplied, self._place(trial.variant) / f"program{supplied.value.suffix}"
        )

    def recipe(self, variant: Variant) -> Recipe | None:
        """Return the recipe of a trial; None if there is none.

        Raises ``RecipeError`` if its files were changed.
        """
        path = self._place(variant) / RECIPE
        return Recipe.load(path) if path.exists() else None

    def float_metric(
        self, measure: Callable[[], tuple[float, list[str]]]
    ) -> tuple[float, list[str]]:
        """Return the stored metric of the float model, with notes; it is measured only once."""
        path = self.folder / FLOAT
        if path.exists():
            return metric_in(path)
        metric, notes = measure()
        self._write(path, {"metric": metric, "notes": notes})
        return metric, notes

    def keep_best(self, trial: Trial, supplied: Supplied[Backend]) -> None:
        """Link the program of a trial to ``best``, and copy its recipe, with their suffixes.

        A program of another backend that was the best before is removed.
        """
        backend, folder = supplied.value, self.folder
        name = self._place(trial.variant) / f"program{backend.suffix}"
        best = paths(backend, folder / f"best{backend.suffix}")
        program = dict(zip(best, paths(backend, name), strict=True))
        renamed = renamed_files(self._place(trial.variant) / RECIPE, "best")
        recipe = {folder / each: data for each, data in renamed.items()}
        with _writing(folder):
            write_all_atomically(recipe, copies=program)
            for other in set(folder.glob("best.*")) - recipe.keys() - program.keys():
                other.unlink()

    def remove_best(self) -> None:
        """Remove the copy of a program that turned out not to run again."""
        with _writing(self.folder):
            for path in self.folder.glob("best.*"):
                path.unlink()

    def patterns(self, variant: Variant) -> tuple[list[Pattern], list[str]] | None:
        """Return the stored patterns of a variant, and the notes on them; None without any."""
        path = self._place(variant) / "patterns.json"
        return patterns_in(path) if path.exists() else None

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


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _are_same(place: Path, files: Mapping[str, str]) -> bool:
    """Whether the files of a program are as they were written, by their hashes."""
    return bool(files) and all(
        (place / name).is_file() and _digest((place / name).read_bytes()) == digest
        for name, digest in files.items()
    )


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
