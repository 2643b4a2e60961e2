"""Branches whose partitions depend on each other lower; other partitions stay whole."""

from __future__ import annotations

import pytest
import torch
from chains import chain, failures, side_by_side

import qreg
import qreg_xnnpack.lowering
from qreg.errors import LoweringError
from qreg_xnnpack.partitions import TAG, split_cycles, without_cycles

SHAPE = (2, 4, 8)
ENTANGLED = [
    chain(SHAPE, "permute", "~prelu", "conv_transpose1d"),
    chain(SHAPE, "unsqueeze", "~prelu"),
    chain(SHAPE, "gelu", "squeeze", "~unbind", "batch_norm1d", "~cat", "batch_norm1d"),
]


def test_partitions_that_depend_on_each_other_are_split() -> None:
    assert failures(ENTANGLED, "xnnpack") == []


def test_executorch_still_fails_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [each for each in qreg_xnnpack.lowering.PATCHES if each is not without_cycles]
    monkeypatch.setattr(qreg_xnnpack.lowering, "PATCHES", others)
    model, batches = side_by_side(ENTANGLED)
    with pytest.raises(LoweringError, match="dependency cycles"):
        qreg.lower(model, batches[0])


def graph_of_two_branches() -> torch.fx.Graph:
    """Two chains of three nodes, ``a0 a1 a2`` and ``b0 b1 b2``."""
    graph = torch.fx.Graph()
    for name in "ab":
        node = graph.placeholder(f"{name}0")
        for number in (1, 2):
            node = graph.create_node("call_function", torch.relu, (node,), name=f"{name}{number}")
    return graph


def tagged(graph: torch.fx.Graph, tags: dict[str, str]) -> dict[str, str]:
    for node in graph.nodes:
        if node.name in tags:
            node.meta[TAG] = tags[node.name]
    specs = dict.fromkeys(tags.values(), "specification")
    split_cycles(graph, specs)
    assert set(specs.values()) == {"specification"}
    found = {node.name: node.meta[TAG] for node in graph.nodes if TAG in node.meta}
    assert set(found.values()) == specs.keys()
    return found


def test_a_partition_in_a_cycle_is_split_into_its_connected_parts() -> None:
    found = tagged(graph_of_two_branches(), {"a1": "x", "a2": "y", "b1": "y", "b2": "x"})
    assert len(set(found.values())) == 4


def test_partitions_in_order_stay_whole() -> None:
    tags = {"a1": "x", "b1": "x", "a2": "y", "b2": "y"}
    assert tagged(graph_of_two_branches(), tags) == tags
