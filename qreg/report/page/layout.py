"""Layout of a graph on the page: in layers, top to bottom, in the order of the graph.

Layered drawing (Sugiyama) for the graphs that models are: long, narrow, and already in topological
order. An edge over several layers gets a joint in each of them, so that it goes around the nodes
between; one over very many layers goes down a lane beside the graph.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import define, field, frozen

Point = tuple[float, float]
Edge = tuple[str, str]

WIDTH, HEIGHT = 156.0, 40.0  # of a node
ROW, GAP, LANE = 72.0, 24.0, 14.0  # between layers, nodes and the lanes of long edges
LONG = 24  # layers that an edge may cross among the nodes
SWEEPS = 6  # down and up again
SPINE, BRANCH, SLACK = 1e5, 1e2, 1.0  # the weight with which a box keeps its position


@frozen
class Layout:
    """The centre of each node, and for edges that are not straight the points between the ends."""

    points: Mapping[str, Point]
    routes: Mapping[Edge, Sequence[Point]]


@define(eq=False)
class _Box:
    """A node, or the joint of an edge, with its neighbours above and below."""

    width: float
    weight: float
    x: float = 0.0
    above: list[_Box] = field(factory=list)
    below: list[_Box] = field(factory=list)


def layout(inputs: Mapping[str, Sequence[str]]) -> Layout:
    """Place nodes, given in topological order with the nodes that each reads."""
    edges = [(source, name) for name, sources in inputs.items() for source in sources]
    layer = layers(inputs, edges)
    weights = _weights(inputs, layer)
    boxes = {name: _Box(WIDTH, weights[name]) for name in inputs}
    rows: list[list[_Box]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for name, box in boxes.items():
        rows[layer[name]].append(box)
    short = [edge for edge in edges if layer[edge[1]] - layer[edge[0]] <= LONG]
    joints = {edge: _tied(edge, layer, boxes, rows) for edge in short}
    _arrange(rows)
    points = {name: (box.x, layer[name] * ROW) for name, box in boxes.items()}
    routes = {
        (source, name): _bends(points[source], boxes, points[name])
        for (source, name), boxes in joints.items()
    }
    routes |= _lanes([edge for edge in edges if edge not in joints], points)
    return Layout(points, {edge: route for edge, route in routes.items() if route})


def layers(inputs: Mapping[str, Sequence[str]], edges: Iterable[Edge]) -> dict[str, int]:
    """Return the longest path to each node; a node without inputs is right above its consumer."""
    layer: dict[str, int] = {}
    for name, sources in inputs.items():
        layer[name] = 1 + max((layer[source] for source in sources), default=-1)
    first: dict[str, int] = {}
    for source, name in edges:
        first[source] = min(first.get(source, layer[name]), layer[name])
    origins = [name for name, sources in inputs.items() if not sources and name in first]
    return layer | {name: first[name] - 1 for name in origins}


def _weights(inputs: Mapping[str, Sequence[str]], layer: Mapping[str, int]) -> dict[str, float]:
    """Return the weight of each node; the longest paths are the spine, which should be straight."""
    below = dict.fromkeys(inputs, 0)
    for name in reversed(list(inputs)):
        for source in inputs[name]:
            below[source] = max(below[source], below[name] + 1)
    depth = max(layer.values(), default=0)
    return {
        name: SLACK if not reads else SPINE if layer[name] + below[name] == depth else BRANCH
        for name, reads in inputs.items()
    }


def _tied(
    edge: Edge, layer: Mapping[str, int], boxes: Mapping[str, _Box], rows: list[list[_Box]]
) -> list[_Box]:
    source, name = edge
    joints = [_Box(0.0, SLACK) for _ in range(layer[source] + 1, layer[name])]
    for row, joint in zip(rows[layer[source] + 1 :], joints, strict=False):
        row.append(joint)
    for above, below in itertools.pairwise([boxes[source], *joints, boxes[name]]):
        above.below.append(below)
        below.above.append(above)
    return joints


def _arrange(rows: Sequence[list[_Box]]) -> None:
    for row in rows:
        _place(row, [0.0] * len(row))
    for _ in range(SWEEPS):
        for row in reversed(rows):
            _sort(row, [_mean(box.below, box.x) for box in row])
        for row in rows:
            _sort(row, [_mean(box.above, box.x) for box in row])


def _sort(row: list[_Box], wishes: Iterable[float]) -> None:
    wished = dict(zip(map(id, row), wishes, strict=True))
    row.sort(key=lambda box: wished[id(box)])
    _place(row, [wished[id(box)] for box in row])


def _mean(neighbours: Sequence[_Box], otherwise: float) -> float:
    total = sum(box.weight for box in neighbours)
    return sum(box.x * box.weight for box in neighbours) / total if total else otherwise


def _place(row: Sequence[_Box], wished: Sequence[float]) -> None:
    """Place the boxes of a row as near to the wished positions as they fit, by least squares.

    After subtracting the width of the boxes to its left, the position of each box may only grow.
    This is an isotonic regression, solved by pooling neighbours that would change their order.
    """
    offsets = list(itertools.accumulate(_distances(row), initial=0.0))
    pools: list[tuple[float, float, int]] = []  # mean, weight, boxes
    for box, wish, offset in zip(row, wished, offsets, strict=False):
        mean, weight, count = wish - offset, box.weight, 1
        while pools and pools[-1][0] > mean:
            other, more, boxes = pools.pop()
            mean = (mean * weight + other * more) / (weight + more)
            weight, count = weight + more, count + boxes
        pools.append((mean, weight, count))
    means = itertools.chain.from_iterable([mean] * count for mean, _, count in pools)
    for box, mean, offset in zip(row, means, offsets, strict=False):
        box.x = mean + offset


def _distances(row: Sequence[_Box]) -> Iterator[float]:
    return ((one.width + other.width) / 2 + GAP for one, other in itertools.pairwise(row))


def _bends(start: Point, joints: Sequence[_Box], end: Point) -> list[Point]:
    """Return the joints at which an edge changes its direction."""
    points = [start, *((box.x, start[1] + ROW * n) for n, box in enumerate(joints, 1)), end]
    return [
        here
        for (above, _), here, (below, _) in zip(points, points[1:], points[2:], strict=False)
        if abs(above + below - 2 * here[0]) > 1
    ]


def _lanes(edges: Iterable[Edge], points: Mapping[str, Point]) -> dict[Edge, list[Point]]:
    """Return the routes of long edges, left of all nodes; edges from one node share a lane."""
    left = min((x for x, _ in points.values()), default=0.0) - WIDTH
    lanes: dict[str, float] = {}
    routes = {}
    for source, name in edges:
        x = lanes.setdefault(source, left - LANE * len(lanes))
        top, bottom = points[source][1] + ROW / 2, points[name][1] - ROW / 2
        routes[source, name] = [
            (points[source][0], top),
            (x, top),
            (x, bottom),
            (points[name][0], bottom),
        ]
    return routes
