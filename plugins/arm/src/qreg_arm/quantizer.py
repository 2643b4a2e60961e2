"""Arm's quantizer, adapted to respect third-party annotations.

executorch 1.4.1 marks the nodes that its patterns matched with a private key, and ignores
annotations of other quantizers. Its lowering computes an operator on integers only if the operator
has a second private mark. The adapter sets this mark on all annotated operators and on no others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executorch.backends.arm.quantizer import TOSAQuantizer
from torch import Tensor
from torch.fx import Node
from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec

from qreg.graph.compat import annotation_of, restore_annotation
from qreg.graph.provenance import CUSTOM
from qreg_arm.compat import matched_key, quantized_key
from qreg_arm.config import in_arm_form
from qreg_arm.repairs import own_scaled_weights
from qreg_arm.scores import bound_scores

if TYPE_CHECKING:
    from torch.fx import GraphModule


class ArmQuantizer(TOSAQuantizer):  # type: ignore[misc]  # executorch is not typed
    """Arm's quantizer for the compile spec of TOSA or of an Ethos-U."""

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        own_scaled_weights(model)
        transformed: GraphModule = super().transform_for_annotation(model)
        for node in transformed.graph.nodes:
            node.meta.get(CUSTOM, {}).pop(quantized_key(), None)  # of a trial run on all nodes
        return transformed

    def annotate(self, model: GraphModule) -> GraphModule:
        nodes = list(model.graph.nodes)
        taken = {node for node in nodes if annotation_of(node)}
        closed = taken.union(_borders(nodes, taken))
        _set_matched(nodes, closed)
        annotated: GraphModule = super().annotate(model)
        _set_matched(nodes, ())
        for node in nodes:
            if node not in taken and not any(map(_is_float, (node, *node.all_input_nodes))):
                restore_annotation(node, None)  # Arm annotates operators on indices, to no effect
        for node in filter(_is_call, taken):
            _mark(node)
            _quantize_bias(node)
        bound_scores(annotated.graph)
        return annotated


def _is_call(node: Node) -> bool:
    return bool(node.op == "call_function")


def _is_float(node: Node) -> bool:
    value = node.meta.get("val")
    listed = value if isinstance(value, (tuple, list)) else (value,)
    return any(isinstance(each, Tensor) and each.dtype.is_floating_point for each in listed)


def _borders(nodes: list[Node], taken: set[Node]) -> list[Node]:
    """Return the inputs and outputs of the graph that are next to nodes in ``taken``.

    The quantizer that annotated those nodes decides on the inputs and outputs too. Arm would
    annotate the inputs and outputs of a model whether or not it annotates the operators there.
    """
    inputs = [n for n in nodes if n.op == "placeholder" and not taken.isdisjoint(n.users)]
    outputs = [n for n in nodes if n.op == "output" and not taken.isdisjoint(n.all_input_nodes)]
    return inputs + outputs


def _set_matched(nodes: list[Node], matched: Any) -> None:
    for node in nodes:
        node.meta.pop(matched_key(), None)
        if node in matched:
            node.meta[matched_key()] = True


def _mark(node: Node) -> None:
    """Mark an operator with a third-party annotation as quantized."""
    found: Any = annotation_of(node)
    if found.input_qspec_map or found.output_qspec:
        mark = {quantized_key(): {"quantized": True}}
        node.meta[CUSTOM] = node.meta.get(CUSTOM, {}) | mark


def _quantize_bias(node: Node) -> None:
    """Add the int32 bias that Arm's convolutions require to a third-party annotation."""
    specs = annotation_of(node).input_qspec_map  # type: ignore[union-attr]
    source, weight, bias = (*node.args, None, None, None)[:3]
    plain = all(isinstance(specs.get(each), QuantizationSpec) for each in (source, weight))
    if plain and isinstance(bias, Node) and specs.get(bias) is None:
        config = in_arm_form(QuantizationConfig(specs[source], None, specs[weight], None))
        specs[bias] = config.get_bias_qspec(node)
