"""What is computed ahead of quantization: constants, and batch norms downstream of a layer."""

from __future__ import annotations

from torch.fx import GraphModule

from qreg.folding.batch_norms import rewrite_batch_norms
from qreg.folding.parameters import fold_constants
from qreg.graph.grad_modes import inline_grad_modes
from qreg.graph.rewrites import without_dropouts


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
            without_dropouts(each)
            fold_constants(each)
            rewrite_batch_norms(each)
            fold_constants(each)
    return model
