"""Read what a work folder has in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qreg.errors import InputError
from qreg.tuning.patterns import Pattern
from qreg.tuning.values import Place, Trial, Variant


def values_in(path: Path) -> dict[str, Any]:
    """Return the values in a file. Raises ``InputError`` for one that qreg did not write."""
    with _reading(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def trial_in(path: Path, variant: Variant) -> Trial:
    """Return the trial of a variant in a file. Raises as :func:`values_in`."""
    stored = values_in(path)
    with _reading(path):
        rest = {name: each for name, each in stored.items() if name not in ("variant", "files")}
        rest |= {name: tuple(rest[name]) for name in ("kept", "uncertain")}
        rest["culprits"] = _places(rest["culprits"])
        rest["metric"] = None if rest["metric"] is None else float(rest["metric"])
        return Trial(variant, **rest)


def files_in(path: Path) -> dict[str, str]:
    """Return the hashes of the files of a trial's program. Raises as :func:`values_in`."""
    stored = values_in(path)
    with _reading(path):
        return dict(stored["files"])


def patterns_in(path: Path) -> tuple[list[Pattern], list[str]]:
    """Return the patterns in a file, and the notes on them. Raises as :func:`values_in`."""
    stored = values_in(path)
    with _reading(path):
        return [_pattern(each) for each in stored["patterns"]], list(stored["notes"])


def metric_in(path: Path) -> tuple[float, list[str]]:
    """Return the metric in a file, and the notes on it. Raises as :func:`values_in`."""
    stored = values_in(path)
    with _reading(path):
        return float(stored["metric"]), list(stored.get("notes", ()))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn an error of a file's content into an ``InputError``."""
    try:
        yield
    except (OSError, AttributeError, LookupError, TypeError, ValueError) as cause:
        raise InputError(
            f"work folder: {path} cannot be read: {cause!r} (expected JSON that qreg wrote). "
            "Remove the file to make it again"
        ) from cause


def _pattern(stored: Mapping[str, Any]) -> Pattern:
    names, places = tuple(stored["names"]), _places(stored["places"])
    return Pattern(**{**stored, "names": names, "places": places})


def _places(stored: list[Mapping[str, Any]]) -> tuple[Place, ...]:
    return tuple(Place(**each) for each in stored)
