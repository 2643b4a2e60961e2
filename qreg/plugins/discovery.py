"""Find the plugins in the entry points of installed distributions, without loading them.

``importlib.metadata.entry_points()`` stops at the first malformed file of any distribution. This
module reads each distribution separately, so a malformed one does not affect the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import Distribution, distributions, version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from attrs import field, frozen
from packaging.utils import canonicalize_name

from qreg.identity import HOST, OTHER

if TYPE_CHECKING:
    from packaging.markers import Marker
    from packaging.specifiers import SpecifierSet


GROUP = "qreg"


@frozen
class Found:
    """An entry point of an installed distribution.

    ``problem`` is the reason why it cannot be used. ``fault`` is a problem of its installation that
    does not prevent its use.
    """

    name: str
    distribution: str
    version: str
    load: Callable[[], object] = field(repr=False)
    problem: str | None = None
    cause: Exception | None = None
    fault: str | None = None
    module: str = ""


def discover() -> Iterator[Found]:
    """Yield the plugins of all installed distributions.

    If a distribution is installed twice, the first on ``sys.path`` is used, as for imports.
    """
    copies: dict[object, list[Distribution]] = {}
    for distribution in distributions():
        if f"[{GROUP}]" in _entry_points_text(distribution):
            copies.setdefault(_identity(distribution), []).append(distribution)
    for first, *others in copies.values():
        yield from _plugins_of(first, _hidden_copies(first, others))


def _entry_points_text(distribution: Distribution) -> str:
    # Reading the text is much cheaper than parsing it, and a malformed line cannot raise.
    try:
        return distribution.read_text("entry_points.txt") or ""
    except UnicodeDecodeError as stray:
        return stray.object.decode(errors="replace")


def _identity(distribution: Distribution) -> object:
    """Return a key of a distribution: its name, or its place and text if it has no name."""
    name = _name(distribution)
    if name is not None:
        return canonicalize_name(name)
    return _place(distribution), _entry_points_text(distribution)


def _name(distribution: Distribution) -> str | None:
    return _metadata(distribution, "Name")


def _version(distribution: Distribution) -> str:
    return _metadata(distribution, "Version") or ""


def _metadata(distribution: Distribution, key: str) -> str | None:
    try:
        value = distribution.metadata[key]
    except Exception:  # raised again, as a problem of the plugin, when its requirements are read
        return None
    return None if value is None else str(value)


def _place(distribution: Distribution) -> Path:
    return Path(str(distribution.locate_file(""))).resolve()


def _hidden_copies(first: Distribution, others: Sequence[Distribution]) -> str | None:
    """Return the fault of a distribution that is installed more than once, or None."""
    hidden = [each for each in others if not _is_same(first, each)]
    if not hidden:
        return None
    ignored = " and ".join(map(_whereabouts, hidden))
    return (
        f"its distribution is installed {len(hidden) + 1} times: {_whereabouts(first)} stays in "
        f"force, as the first on sys.path; {ignored} is ignored"
    )


def _whereabouts(distribution: Distribution) -> str:
    return f"{_version(distribution)} in {_place(distribution)}"


def _is_same(one: Distribution, other: Distribution) -> bool:
    """Whether two copies are one installation: the same place twice, or an editable project."""
    places = _place(one), _place(other)
    if places[0] == places[1] and _version(one) == _version(other):
        return True
    projects = _editable_project(one), _editable_project(other)
    pairs = zip(projects, reversed(places), strict=True)
    return any(project and place.is_relative_to(project) for project, place in pairs)


def _editable_project(distribution: Distribution) -> Path | None:
    """Return the folder of an editable installation, where setuptools leaves metadata, or None."""
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        editable = origin.get("dir_info", {}).get("editable", False)
        return Path(url2pathname(urlsplit(origin["url"]).path)).resolve() if editable else None
    except (ValueError, LookupError, AttributeError):  # not the JSON that pip writes
        return None


def _plugins_of(distribution: Distribution, fault: str | None) -> Iterator[Found]:
    name, number = _name(distribution) or "of unknown name", _version(distribution)
    try:
        points = [point for point in distribution.entry_points if point.group == GROUP]
    except Exception as cause:  # a damaged file fails in many ways
        yield from _unreadable(distribution, cause)
        return
    problem, raised = _misfit(distribution)
    for point in points:
        yield Found(
            point.name, name, number, point.load, problem, raised, fault, _module(point.value)
        )


def _module(value: str) -> str:
    """Return the module that an entry point names; ``EntryPoint.module`` raises if it is none."""
    return value.partition(":")[0].strip()


def _unreadable(distribution: Distribution, cause: Exception) -> Iterator[Found]:
    """Yield the plugins of a malformed file by the names that can be read, to skip them."""
    text = _entry_points_text(distribution).partition(f"[{GROUP}]")[2].partition("\n[")[0]
    name = _name(distribution) or "of unknown name"
    problem = f"its metadata cannot be read: {cause!r}"
    for plugin in re.findall(r"^\s*([^\s=#;\[]+)\s*=", text, re.MULTILINE) or [name]:
        yield Found(plugin, name, _version(distribution), object, problem, cause)


def _misfit(distribution: Distribution) -> tuple[str | None, Exception | None]:
    """Return why a distribution does not support this version of qreg, and the error if any."""
    try:
        wanted, others = _wanted(distribution, HOST), _wanted(distribution, OTHER)
    except Exception as cause:  # a damaged file fails in many ways
        return f"its metadata cannot be read: {cause!r}", cause
    if others:
        return f"it requires {OTHER!r}, which is another library (expected {HOST!r})", None
    ours = version(HOST) if wanted else ""
    for each in wanted:
        if not each.contains(ours, prereleases=True):
            return f"it requires {HOST}{each}, and this is {HOST} {ours}", None
    return None, None


def _wanted(distribution: Distribution, name: str) -> list[SpecifierSet]:
    """Return the version ranges that a distribution requires of one, for each requirement."""
    from packaging.requirements import Requirement

    texts = [text for text in distribution.requires or () if text.lower().startswith(OTHER)]
    needed = [each for each in map(Requirement, texts) if canonicalize_name(each.name) == name]
    return [each.specifier for each in needed if _applies(each.marker)]


def _applies(marker: Marker | None) -> bool:
    return marker is None or marker.evaluate({"extra": ""})
