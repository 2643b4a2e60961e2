"""Candidates for algorithms at the stage "float", without a backend."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from qreg import Calibration, Candidate, Change, Decision, Registry
from qreg.algorithms.changes import write
from qreg.algorithms.collecting import Collecting
from qreg.algorithms.stock import CHANNEL_RANGES
from qreg.folding.fold import folded
from qreg.graph.nodes import computes_tensors
from qreg.graph.prepared import copied
from qreg.graph.values import constant_at, value_of


def exported(model: nn.Module, x: Tensor) -> GraphModule:
    """Return the folded graph of a model."""
    return folded(torch.export.export(model.eval(), (x,)).module(check_guards=False))


def candidate(
    registry: Registry, graph: GraphModule, kept: frozenset[str] = frozenset()
) -> Candidate:
    """Return a candidate all of whose operators are quantized, except those that are kept."""
    decisions = [
        Decision(node.name, str(node.target), "", "float" if node.name in kept else "annotated", "")
        for node in filter(computes_tensors, graph.graph.nodes)
    ]
    backend = registry.backend("toy").value
    return Candidate(graph, graph, decisions, kept, backend, frozenset({"static"}))


def seen(graph: GraphModule, batches: Sequence[Tensor]) -> Calibration:
    """Return the samples and the ranges of the channels in them."""
    collecting = Collecting(graph, [CHANNEL_RANGES])
    with torch.no_grad():
        for batch in batches:
            collecting.run(batch)
    assert not collecting.collected.failed
    return Calibration([(each,) for each in batches], collecting.collected.values)


def written(graph: GraphModule, changes: Sequence[Change]) -> GraphModule:
    """Return a copy of a float graph with changes."""
    return write(copied(graph), changes, "float")


def constant(graph: GraphModule, name: str, position: int) -> Tensor:
    """Return a constant argument of an operator."""
    (node,) = (each for each in graph.graph.nodes if each.name == name)
    found = constant_at(node, position)
    assert found is not None
    return value_of(graph, found).detach()
