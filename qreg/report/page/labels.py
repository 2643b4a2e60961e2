"""Places for the labels of circles, so that no label covers another label or circle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from attrs import frozen

Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom

LETTER, HEIGHT = 7.7, 15.0  # of a letter in units of the view box
GAP = 4.0
RINGS = (0.0, 14.0, 30.0, 50.0, 75.0, 105.0)  # distances from the circle, the nearest first
DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))


@frozen
class Circle:
    x: float
    y: float
    radius: float
    label: str


@frozen
class Label:
    """The middle of a label: ``inside`` its circle, or so far from it that a ``leader`` helps."""

    x: float
    y: float
    inside: bool = False
    leader: bool = False


def placed(circles: Sequence[Circle], area: Box) -> list[Label]:
    """Return the place of each label, in the middle of its circle or as near as there is room.

    Small circles choose first, since large ones have room inside. A label without room anywhere is
    where it covers least.
    """
    found: dict[int, Label] = {}
    taken: list[Box] = []
    for number in sorted(range(len(circles)), key=lambda each: circles[each].radius):
        circle = circles[number]
        others = [_around(each) for at, each in enumerate(circles) if at != number]
        label = _best(circle, [*taken, *others], area)
        taken.append(_box(label, circle.label))
        found[number] = label
    return [found[number] for number in range(len(circles))]


def _best(circle: Circle, obstacles: Sequence[Box], area: Box) -> Label:
    least, chosen = math.inf, Label(circle.x, circle.y)
    for label in _candidates(circle):
        box = _box(label, circle.label)
        covered = sum(_common(box, each) for each in obstacles) + _outside(box, area)
        if covered < least - 1e-9:
            least, chosen = covered, label
        if not covered:
            break
    return chosen


def _candidates(circle: Circle) -> Iterator[Label]:
    width = LETTER * len(circle.label)
    if math.hypot(width, HEIGHT / 2) <= 2 * circle.radius:
        yield Label(circle.x, circle.y, inside=True)
    for ring in RINGS:
        for right, down in DIRECTIONS:
            slant = math.hypot(right, down)
            reach = (circle.radius + GAP + ring) / slant
            x = circle.x + right * (reach + width / 2)
            y = circle.y + down * (reach + HEIGHT / 2)
            yield Label(round(x, 1), round(y, 1), leader=ring > 0)


def _box(label: Label, text: str) -> Box:
    half = LETTER * len(text) / 2
    return label.x - half, label.y - HEIGHT / 2, label.x + half, label.y + HEIGHT / 2


def _around(circle: Circle) -> Box:
    r = circle.radius
    return circle.x - r, circle.y - r, circle.x + r, circle.y + r


def _common(one: Box, other: Box) -> float:
    """Return the area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _outside(box: Box, area: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1]) - _common(box, area)
