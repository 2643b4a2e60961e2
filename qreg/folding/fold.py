"""Fold constants and batch norms ahead of quantization."""

from __future__ import annotations

from torch.fx import GraphModule

from qreg.folding.batch_norms import fold_batch_norms, rewrite_batch_norms
from qreg.folding.branches import merge_branches
from qreg.folding.parameters import fold_constants
from qreg.graph.grad_modes import inline_grad_modes
from qreg.graph.rewrites import without_dropouts


def folded(model: GraphModule) -> GraphModule:
    """Fold all constants and batch norms of a graph, in place, and return the graph.

    For inference only. The outputs and the tensors of the model do not change. The operation is
    idempotent. Operators inside a ``torch.no_grad()`` of the model are moved out of the subgraph
    that torch.export creates for them. The batch norms of loops and branches are rewritten too.
    Inactive dropouts, which may be between a layer and its norm, are removed.
    """
    model = inline_grad_modes(model)
    for each in model.modules():
        if isinstance(each, GraphModule):
            without_dropouts(each)
            fold_constants(each)
            fold_batch_norms(each)
            fold_constants(each)
            merge_branches(each)
            rewrite_batch_norms(each)
            fold_constants(each)
    return model
