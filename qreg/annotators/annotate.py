"""Annotate a match: with the specs of a config, the qparams of its input, or shared qparams.

Plugins refer to these functions in their tables, so torch is imported when they are called.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qreg.plugins.types.annotator import Annotation, Match, Refusal

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec
    from torchao.quantization.pt2e.quantizer.quantizer import QuantizationSpecBase


def output_spec(node: Node) -> QuantizationSpecBase | None:
    """Return the spec of a node's output, or None if the node has none."""
    from qreg.graph.compat import annotation_of

    found = annotation_of(node)
    return found.output_qspec if found else None


def standard(match: Match, config: QuantizationConfig) -> Sequence[Annotation]:
    """Annotate inputs, weight, bias and output with the config's specs; None stays in float."""
    specs: dict[Node, QuantizationSpecBase | None] = dict.fromkeys(
        match.inputs, config.input_activation
    )
    if match.weight is not None:
        specs[match.weight] = config.weight
    if match.bias is not None:
        specs[match.bias] = config.bias
    return [
        Annotation(
            node,
            {entering: spec for entering in node.all_input_nodes if (spec := specs.get(entering))},
            config.output_activation if node is match.output else None,
        )
        for node in match.nodes
    ]


def shared_with_producer(
    match: Match, config: QuantizationConfig
) -> Sequence[Annotation] | Refusal:
    """Share the qparams of the input with the output, for operators that move or clip values."""
    from torchao.quantization.pt2e.quantizer import SharedQuantizationSpec

    (producer,) = match.inputs
    if output_spec(producer) is None:
        return Refusal("its input is not quantized, so there are no qparams to share")
    spec = SharedQuantizationSpec(producer)
    return [Annotation(match.output, {producer: spec}, spec)]


def carried_on(match: Match, config: QuantizationConfig) -> Sequence[Annotation]:
    """Annotate the first operator from the config; those downstream share its output's qparams."""
    from torchao.quantization.pt2e.quantizer import SharedQuantizationSpec

    head = Match(match.nodes[:1], match.inputs, match.weight, match.bias)
    carried = []
    for producer, node in zip(match.nodes, match.nodes[1:], strict=False):
        spec = SharedQuantizationSpec(producer)
        carried.append(Annotation(node, {producer: spec}, spec))
    return [*standard(head, config), *carried]


def shared_in_and_out(match: Match, config: QuantizationConfig) -> Sequence[Annotation]:
    """Share one set of qparams between all inputs and the output.

    The qparams are those of the first input that is already quantized. If no input is quantized,
    the first input is observed.
    """
    from torchao.quantization.pt2e.quantizer import SharedQuantizationSpec

    source = next((node for node in match.inputs if output_spec(node)), match.inputs[0])
    edge = SharedQuantizationSpec((source, match.output))
    inputs: dict[Node, QuantizationSpecBase] = {source: config.input_activation}
    inputs.update({node: edge for node in match.inputs if node is not source})
    return [Annotation(match.output, inputs, edge)]


def along_axis_1(match: Match, config: QuantizationConfig) -> Sequence[Annotation]:
    """Annotate as ``standard``, for weights with their output channels along axis 1.

    Transposed convolutions and ``addmm`` have such weights.
    """
    return standard(match, with_channel_axis(config, 1))


def with_channel_axis(config: QuantizationConfig, axis: int) -> QuantizationConfig:
    """Return the config with its per-channel weights along another axis.

    Configs without per-channel weights are returned unchanged. The axis is set in the observer's
    factory as well: torchao 0.18 does not pass the axis on to a fake quantizer, whose observer
    would stay at axis 0. torchao's fused fake quantizer supports axis 0 only, so it is replaced
    by the plain one.
    """
    import torch
    from torchao.quantization.pt2e import FakeQuantize, FusedMovingAvgObsFakeQuantize

    from qreg.graph.compat import made_by

    weight: QuantizationSpec | None = config.weight
    if weight is None or weight.qscheme != torch.per_channel_symmetric:
        return config
    observer, arguments = made_by(weight.observer_or_fake_quant_ctr)
    if issubclass(observer, FusedMovingAvgObsFakeQuantize):
        observer = FakeQuantize
    factory = observer.with_args(**{**arguments, "ch_axis": axis})
    weight = dataclasses.replace(weight, ch_axis=axis, observer_or_fake_quant_ctr=factory)
    return dataclasses.replace(config, weight=weight)
