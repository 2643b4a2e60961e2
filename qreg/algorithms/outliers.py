"""Outlier channels of what layers add to a residual stream.

In a transformer, a few channels of the residual stream may be a hundred times as large as the
others. Rounded with one scale, the others become zero. The rows of the layer that produces such a
channel are divided by a power of two, and the channel is multiplied by it in float. The sums that
read it, and the norms that scale all channels alike again, stay in float too. The weights are still
rounded row by row, and all multiply-accumulates are in int8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.fx import Node

from qreg.algorithms.channels import Ranges, by_outputs
from qreg.algorithms.layers import BIAS, LINEAR, WEIGHT, Layer
from qreg.algorithms.rescaling import NORMS, Rescaled, Sources
from qreg.graph.nodes import called
from qreg.graph.operators import ADD, SUB
from qreg.graph.walks import reachable
from qreg.plugins.types.algorithm import Candidate, Change

SUMS = (*ADD, *SUB)
REASON = "its input has outlier channels, which would be rounded together with the others"


def outlier_layers(candidate: Candidate) -> Iterator[tuple[Layer, list[Node]]]:
    """Yield the quantized linear layers whose output goes into sums and norms alone.

    With each of them come the sums and norms that its output reaches.
    """
    quantized = {each.node for each in candidate.decisions if each.quantized}
    for layer in Sources(candidate).layers.values():
        if layer.name not in quantized or called(layer.node) != LINEAR:
            continue
        reached = [node for node in reachable(layer.node.users, _readers) if node.op != "output"]
        names = {called(node) for node in reached}
        if names & {*SUMS} and names <= {*SUMS, *NORMS}:
            yield layer, reached


def _readers(node: Node) -> list[Node]:
    """Return the readers of a sum; a norm scales all channels alike again."""
    return list(node.users) if called(node) in SUMS else []


def outlier_changes(
    candidate: Candidate, ranges: Mapping[str, Ranges], rescaled: Rescaled, threshold: float
) -> Iterator[Change]:
    """Divide the rows of outlier channels in ``rescaled``; yield the changes that restore them.

    A channel is divided by the power of two with which its range is at most ``threshold`` times
    the median range of the layer's channels.
    """
    restored: dict[Node, Tensor] = {}
    in_float: dict[str, None] = {}
    for layer, reached in outlier_layers(candidate):
        seen = ranges.get(layer.name)
        factors = None if seen is None else _factors(seen, threshold)
        if factors is None:
            continue
        restored[layer.node] = factors
        in_float.update(dict.fromkeys(node.name for node in reached))
        rescaled.multiply(layer.node, WEIGHT, by_outputs(layer, 1 / factors))
        if layer.bias is not None:
            rescaled.multiply(layer.node, BIAS, 1 / factors)
    for node, factors in restored.items():
        yield Change(node.name, scale=factors)
    for name in in_float:
        if name not in candidate.kept:
            yield Change(name, in_float=REASON)


def _factors(seen: Ranges, threshold: float) -> Tensor | None:
    """Return powers of two of shape (channels,), or None if no channel is an outlier."""
    largest = torch.maximum(seen.low.abs(), seen.high.abs())
    limit = threshold * largest.median()
    if limit <= 0 or largest.max() <= limit:
        return None
    return (largest / limit).clamp(min=1).log2().ceil().exp2()
