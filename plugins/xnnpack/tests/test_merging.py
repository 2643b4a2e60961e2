"""Partitions are merged as executorch merges them, which walks through sets of nodes."""

from __future__ import annotations

import itertools
import random

import torch
from torch.fx import Graph, GraphModule
from torch.fx.passes.infra.partitioner import Partition
from torch.fx.passes.operator_support import OperatorSupport

from qreg_xnnpack.compat import group_partitioner, viewers_of_dependencies
from qreg_xnnpack.merging import Dependencies


def drawn(count: int, seed: int) -> GraphModule:
    """Return a graph of sums of two earlier values each."""
    choose, graph = random.Random(seed), Graph()
    values = [graph.placeholder("x")]
    for _ in range(count):
        values.append(graph.call_function(torch.add, tuple(choose.choices(values, k=2))))
    graph.output(values[-1])
    return GraphModule(torch.nn.Module(), graph)


def test_merges_are_those_of_executorch() -> None:
    choose = random.Random(0)
    answers = set()
    for seed in range(20):
        model = drawn(12, seed)
        theirs, ours = group_partitioner()(model, OperatorSupport()), Dependencies(model)
        nodes = [node for node in model.graph.nodes if node.op == "call_function"]
        choose.shuffle(nodes)
        parts = {number: Partition(number, nodes[number::4]) for number in range(4)}
        for one, other in itertools.permutations(parts, 2):
            expected = theirs._can_merge_partitions(one, other, parts)
            assert ours.can_merge(parts[one], parts[other]) == expected
            answers.add(expected)
        if merged := ours.can_merge(parts[0], parts[1]):
            parts[0].nodes.update(parts[1].nodes)
        expected = theirs._can_merge_partitions(0, 2, parts)
        assert ours.can_merge(parts[0], parts[2]) == expected, merged
    assert answers == {True, False}


def test_dependencies_are_those_of_torch_and_executorch() -> None:
    model = drawn(12, 0)
    ours = Dependencies(model)
    for module, name in viewers_of_dependencies():
        theirs = getattr(module, name)(model)
        for node in model.graph.nodes:
            assert ours.downstreams_of(node) == theirs.downstreams_of(node)
            if hasattr(theirs, "upstreams_of"):
                assert ours.upstreams_of(node) == theirs.upstreams_of(node)
