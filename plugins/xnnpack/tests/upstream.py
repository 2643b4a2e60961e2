"""What executorch's own quantizer annotates, and what differs: the reference for these tests."""

from __future__ import annotations

import copy
from typing import Any

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer as UpstreamQuantizer,
)
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    get_symmetric_quantization_config as upstream_config,
)
from torch import nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import prepare
from torchao.quantization.pt2e.quantizer import Quantizer
from torchao.quantization.pt2e.utils import _fuse_conv_bn_

from qreg.plugins.registry import Registry
from qreg_xnnpack import XNNPACKQuantizer, get_symmetric_quantization_config
from qreg_xnnpack.plugin import PLUGIN

STOCK = Registry({"xnnpack": PLUGIN}, entry_points=False)

Spec = tuple[Any, ...]
Points = dict[str, tuple[Spec, frozenset[str]]]


def exported(module: nn.Module, inputs: tuple[Any, ...], *, is_qat: bool = False) -> GraphModule:
    """The graph as prepare_pt2e hands it to a quantizer."""
    graph_module = torch.export.export(module.train(is_qat), inputs).module()
    if not is_qat:
        _fuse_conv_bn_(graph_module)
    return graph_module


def annotated(graph_module: GraphModule, quantizer: Quantizer) -> GraphModule:
    """A copy of the graph, transformed and annotated."""
    graph_module = quantizer.transform_for_annotation(copy.deepcopy(graph_module))
    quantizer.annotate(graph_module)
    return graph_module


def points(graph_module: GraphModule) -> Points:
    """Each annotated edge and output: what it is quantized to, and with which others it shares.

    Sharing is resolved as torchao's prepare resolves it, so that two ways to write down the same
    quantization are equal.
    """
    specs = prepare._get_edge_or_node_to_qspec(graph_module)
    specs = {point: spec for point, spec in specs.items() if spec is not None}
    groups = prepare._get_edge_or_node_to_group_id(specs)
    members: dict[int, set[str]] = {}
    for point in specs:
        members.setdefault(groups[point], set()).add(_name(point))
    return {
        _name(point): (_meaning(_root(point, specs)), frozenset(members[groups[point]]))
        for point in specs
    }


def _name(point: Node | tuple[Node, Node]) -> str:
    if isinstance(point, Node):
        return point.name
    source, user = point
    constant = source.name.startswith("_tensor_constant")
    operand = f"scalar {list(user.args).index(source)}" if constant else source.name
    return f"{operand}->{user.name}"


def _root(point: Any, specs: dict[Any, Any]) -> Any:
    spec = specs[point]
    while hasattr(spec, "edge_or_node"):
        spec = specs[spec.edge_or_node]
    return spec


def _meaning(spec: Any) -> Spec:
    axis = spec.ch_axis if spec.qscheme == torch.per_channel_symmetric else None
    return (spec.dtype, spec.quant_min, spec.quant_max, spec.qscheme, axis, spec.is_dynamic)


def differing_operators(module: nn.Module, inputs: tuple[Any, ...], **config: bool) -> set[str]:
    """The operators at which qreg and upstream annotate differently under one global config."""
    graph_module = exported(module, inputs, is_qat=config.get("is_qat", False))
    theirs_quantizer = UpstreamQuantizer().set_global(upstream_config(**config))
    ours_quantizer = XNNPACKQuantizer(registry=STOCK)
    ours_quantizer.set_global(get_symmetric_quantization_config(**config))
    theirs = points(annotated(graph_module, theirs_quantizer))
    prepared = annotated(graph_module, ours_quantizer)
    ours = points(prepared)
    # qreg's transforms add calls, of which upstream's graph has none.
    nodes = (*prepared.graph.nodes, *graph_module.graph.nodes)
    operators = {node.name: str(node.target) for node in nodes}
    both = theirs.keys() & ours.keys()
    differing = theirs.keys() ^ ours.keys()
    differing |= {point for point in both if _differs(theirs[point], ours[point], both)}
    return {operators[point.rpartition("->")[2]] for point in differing}


def _differs(
    one: tuple[Spec, frozenset[str]], other: tuple[Spec, frozenset[str]], both: set[str]
) -> bool:
    return one[0] != other[0] or one[1] & both != other[1] & both
