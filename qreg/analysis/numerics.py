"""Where the error comes from: each operator's output in the quantized graph against float.

The float graph is the annotated one before its observers did anything, so both graphs have the same
operators, and a pass through each, side by side, is enough.

torchao compares the same two graphs (``prepare_for_propagation_comparison``,
``extract_results_from_loggers`` and ``compare_results`` of ``torchao.quantization.pt2e``). Its
loggers keep the output of every operator for every sample, of both graphs, until the comparison is
made. This module streams: it holds the float outputs of one sample, drops each one as soon as the
quantized graph has computed the same operator, and keeps sums of squares. So the memory does not
grow with the number of samples, and the SQNR is that of all samples together instead of one for
each sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor
from torch.fx import GraphModule
from torchao.quantization.pt2e import FakeQuantizeBase, ObserverBase

from qreg.analysis.interpreter import Watching
from qreg.graph.mutation import keeping_state
from qreg.programs.inputs import cloned
from qreg.verification.noise import Tally

if TYPE_CHECKING:
    from torch.fx import Graph


@frozen
class OperatorNoise:
    """How far an operator's output in the quantized graph is from float, over all samples.

    ``sqnr`` is in dB, as in :class:`~qreg.verification.metrics.OutputComparison`, and has the noise
    of everything before the operator in it. ``largest`` is the largest absolute difference of two
    elements.
    """

    node: str
    sqnr: float
    largest: float


def float_graph(prepared: GraphModule) -> GraphModule:
    """The float model in a prepared one: the same operators and weights, without observers.

    The prepared model stays as it is. The copy shares its weights.
    """
    copied = GraphModule(prepared, _copied(prepared.graph))
    for name, child in list(copied.named_children()):
        if isinstance(child, GraphModule):  # the body of a scan or a loop
            setattr(copied, name, float_graph(child))
    for node in list(copied.graph.nodes):
        if node.op == "call_module" and _observes(copied.get_submodule(str(node.target))):
            node.replace_all_uses_with(node.args[0])
            copied.graph.erase_node(node)
            copied.delete_submodule(str(node.target))
    copied.recompile()
    return copied


def _copied(graph: Graph) -> Graph:
    copied = torch.fx.Graph()
    copied.output(copied.graph_copy(graph, {}))
    copied.set_codegen(graph._codegen)
    return copied


def _observes(module: torch.nn.Module) -> bool:
    return isinstance(module, (ObserverBase, FakeQuantizeBase))


def numerics(
    reference: GraphModule, converted: GraphModule, samples: Sequence[tuple[Any, ...]]
) -> list[OperatorNoise]:
    """The noise of every operator that both graphs have, in the order of the graph.

    One pass each for every sample; of the float graph's values, those of one sample are kept.
    """
    tallies: dict[str, Tally] = {}
    wanted: dict[str, Tensor] = {}

    def compare(name: str, got: Tensor) -> None:
        expected = wanted.pop(name, None)
        if expected is not None and got.numel():
            tallies.setdefault(name, Tally()).add(expected, got)

    def keep(name: str, value: Tensor) -> None:
        wanted[name] = value.clone()

    with torch.no_grad(), keeping_state(reference), keeping_state(converted):
        for sample in samples:
            wanted.clear()
            Watching(reference, keep).run(*cloned(sample))
            Watching(converted, compare).run(*cloned(sample))
    return [OperatorNoise(name, each.sqnr, each.largest) for name, each in tallies.items()]
