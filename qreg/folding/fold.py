"""What is computed ahead of quantization: constants, and batch norms downstream of a layer."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from qreg.folding.batch_norms import rewrite_batch_norms
from qreg.folding.parameters import fold_constants
from qreg.graph.grad_modes import inline_grad_modes
from qreg.graph.nodes import argument
from qreg.graph.operators import DROPOUTS
from qreg.graph.rewrites import bypass, rewritten
from qreg.plugins.operator_names import operator_name


def folded(model: GraphModule) -> GraphModule:
    """The graph with all constants folded and no batch norm left, rewritten in place.

    For inference only: it computes the same, and the tensors of the model stay as they are. Folding
    again changes nothing. Operators inside a ``torch.no_grad()`` of the model are taken out of the
    subgraph that torch.export has put them in. The batch norms of loops and branches are rewritten
    too. Dropouts that are off, which may stand between a layer and its norm, are taken out.
    """
    model = inline_grad_modes(model)
    for each in model.modules():
        if isinstance(each, GraphModule):
            rewritten(each, _bypass_dropout)
            fold_constants(each)
            rewrite_batch_norms(each)
            fold_constants(each)
    return model


def _bypass_dropout(node: Node) -> bool:
    return operator_name(node.target) in DROPOUTS and not argument(node, 2) and bypass(node)
