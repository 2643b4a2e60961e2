"""Where nodes and edges go."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qreg.report.page.layout import GAP, HEIGHT, LONG, ROW, WIDTH, layout


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """Any graph, in topological order."""
    count = draw(st.integers(1, 24))
    reads = [
        draw(st.sets(st.integers(0, max(0, n - 1)), max_size=3)) if n else set()
        for n in range(count)
    ]
    return {
        f"n{n}": tuple(f"n{source}" for source in sorted(found)) for n, found in enumerate(reads)
    }


@settings(deadline=None)
@given(graphs())
def test_nodes_stand_apart_and_edges_go_down(inputs: dict[str, tuple[str, ...]]) -> None:
    points = layout(inputs).points
    assert points.keys() == inputs.keys()
    for (x, y), (other_x, other_y) in itertools.combinations(points.values(), 2):
        assert abs(y - other_y) >= ROW - 1e-6 or abs(x - other_x) >= WIDTH + GAP - 1e-6
    for name, sources in inputs.items():
        assert all(points[source][1] < points[name][1] for source in sources)


@settings(deadline=None)
@given(graphs())
def test_the_joints_of_edges_are_beside_the_nodes(inputs: dict[str, tuple[str, ...]]) -> None:
    found = layout(inputs)
    for route in found.routes.values():
        for (x, y), (node_x, node_y) in itertools.product(route, found.points.values()):
            assert abs(y - node_y) > HEIGHT / 2 or abs(x - node_x) > WIDTH / 2


def test_a_chain_is_a_straight_line_and_what_leads_around_it_is_not() -> None:
    chain = {"n0": (), **{f"n{n}": (f"n{n - 1}",) for n in range(1, 10)}}
    found = layout({**chain, "n9": ("n8", "n2")})
    assert [point[0] for point in found.points.values()] == pytest.approx([0.0] * 10, abs=1)
    assert found.routes.keys() == {("n2", "n9")}


def test_an_input_stands_right_above_what_reads_it() -> None:
    chain = {"x": (), "n0": ("x",), **{f"n{n}": (f"n{n - 1}",) for n in range(1, 6)}}
    points = layout({"mask": (), **chain, "n5": ("n4", "mask")}).points
    assert points["mask"][1] == points["n4"][1]


def test_long_edges_from_one_node_share_a_lane_beside_the_graph() -> None:
    chain = {"n0": (), **{f"n{n}": (f"n{n - 1}",) for n in range(1, 3 * LONG)}}
    late = {name: ("n0", *sources) for name, sources in list(chain.items())[-2:]}
    found = layout({**chain, **late})
    lanes = {route[1][0] for edge, route in found.routes.items() if edge[0] == "n0"}
    assert len(lanes) == 1
    assert max(lanes) < min(x for x, _ in found.points.values()) - WIDTH / 2


def test_the_layout_of_a_long_model_takes_no_time_that_matters() -> None:
    chain = {"n0": (), **{f"n{n}": (f"n{n - 1}",) for n in range(1, 2000)}}
    skips = {f"n{n}": (f"n{n - 1}", f"n{n - 9}") for n in range(10, 2000, 10)}
    start = time.monotonic()
    layout({**chain, **skips})
    assert time.monotonic() - start < 30
