"""Programs as circles in a plane: two numbers as the place, and a third as the area."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from attrs import frozen

from qreg.report.page.labels import Circle, Label, placed
from qreg.report.page.scale import Scale, Tick

BROAD, NARROW = 860.0, 400.0  # widths, of which a page shows the one that fits the window
HEIGHT = 380.0
TOP, BOTTOM, RIGHT = 20.0, 52.0, 24.0  # around the area of the points
LARGEST, LEAST = 22.0, 5.0  # radii
LETTER = 7.0  # width of a letter of an axis


@frozen
class Spot:
    """A program: its place, its size in bytes, and its label.

    ``title`` is what a pointer shows. ``kinds`` are classes of the style: ``met``, ``front``,
    ``best`` and ``plain``.
    """

    x: float
    y: float
    bytes: float
    label: str
    title: str
    kinds: tuple[str, ...] = ()


@frozen
class Level:
    """A horizontal line at a value: a limit, or, if ``plain``, what float has."""

    value: float
    text: str
    plain: bool = False


@frozen
class Point:
    """A circle with its label, which is inside of it, or beside it with a ``leader`` if far."""

    x: float
    y: float
    radius: float
    label: str
    label_x: float
    label_y: float
    inside: bool
    leader: bool
    title: str
    kinds: tuple[str, ...]


@frozen
class Line:
    """A horizontal line, and the place of its text."""

    at: float
    text: str
    text_at: float
    plain: bool


@frozen
class Scatter:
    """The circles, the largest first, the axes and the lines, in units of the view box."""

    points: tuple[Point, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    lines: tuple[Line, ...]
    axis: str
    title: str
    width: float
    left: float
    right: float
    height: float = HEIGHT


def scatter(
    spots: Sequence[Spot],
    *,
    axis: str,
    title: str,
    levels: Sequence[Level] = (),
    width: float = BROAD,
    unit: str = "",
) -> Scatter:
    """Lay out programs that have finite numbers; ``unit`` is that of the values upwards."""
    heights = [*(each.y for each in spots), *(each.value for each in levels)]
    up = Scale.of(heights, HEIGHT - BOTTOM, TOP, unit=unit)
    left = 20.0 + LETTER * max(len(each.text) for each in up.ticks)
    across = Scale.of([each.x for each in spots], left, width - RIGHT, from_zero=True)
    ordered = sorted(spots, key=lambda each: -each.bytes)  # small circles on top of large ones
    circles = list(_circles(ordered, across, up))
    area = (left, TOP, width - 4.0, HEIGHT - BOTTOM)
    points = map(_point, ordered, circles, placed(circles, area))
    return Scatter(
        points=tuple(points),
        across=across.ticks,
        up=up.ticks,
        lines=_lines(levels, up),
        axis=axis,
        title=title,
        width=width,
        left=left,
        right=width - RIGHT,
    )


def _lines(levels: Sequence[Level], up: Scale) -> tuple[Line, ...]:
    """Return the lines with their texts outside of what is between them."""
    highest = min((up(each.value) for each in levels), default=0.0)
    return tuple(
        Line(at, each.text, at + (-5 if at == highest else 14), each.plain)
        for each in levels
        for at in [up(each.value)]
    )


def _circles(spots: Sequence[Spot], across: Scale, up: Scale) -> Iterator[Circle]:
    """Yield a circle for each spot, whose area shows the size of the program."""
    most = max(each.bytes for each in spots) or 1.0
    for each in spots:
        radius = round(max(LEAST, LARGEST * math.sqrt(each.bytes / most)), 2)
        yield Circle(across(each.x), up(each.y), radius, each.label)


def _point(spot: Spot, circle: Circle, label: Label) -> Point:
    return Point(
        x=circle.x,
        y=circle.y,
        radius=circle.radius,
        label=spot.label,
        label_x=label.x,
        label_y=label.y,
        inside=label.inside,
        leader=label.leader,
        title=spot.title,
        kinds=spot.kinds,
    )
