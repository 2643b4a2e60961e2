"""Turn each ``addmm`` by a constant, such as the Conv1D of GPT-2, into a linear.

The weight of an addmm has the shape (in, out). Kernels with packed weights store rows of the shape
(out, in), and have groups along these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qreg.graph.equivalents import is_row
from qreg.graph.nodes import is_in_place, operator_name, tensor_at
from qreg.graph.operators import ADDMM
from qreg.graph.rewrites import new_constant, rewritten

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from qreg.graph.mutation import Mutations
    from qreg.plugins.types.backend import Mode, Transform


def with_linears(mode: Mode) -> Transform:
    """Return a transform for graphs with a config of this mode; it changes them in place.

    Parameters that are trained stay as they are.
    """

    def rewritten_in(model: GraphModule, modes: frozenset[Mode]) -> GraphModule:
        from qreg.graph.mutation import Mutations

        if "qat" in modes or mode not in modes:
            return model
        mutations = Mutations.of(model.graph)
        turned: dict[str, Node] = {}
        return rewritten(model, lambda node: _rewrite(model, node, mutations, turned))

    return rewritten_in


def _rewrite(model: GraphModule, node: Node, mutations: Mutations, turned: dict[str, Node]) -> bool:
    """Rewrite an addmm; ``turned`` has the transposed weights of earlier calls, by their names."""
    import torch

    if operator_name(node.target) not in ADDMM or is_in_place(node):
        return False
    bias, source, weight = cast("tuple[Node, Node, Node]", node.args[:3])
    factors = {node.kwargs.get(name, 1) for name in ("alpha", "beta")}
    constant = weight.op == "get_attr" and not mutations.is_state(weight)
    if factors != {1} or not constant or not is_row(bias, node):
        return False
    name = str(weight.target)
    if name not in turned:
        value = tensor_at(weight).detach().t().contiguous()
        turned[name] = new_constant(model, node, f"{name.replace('.', '_')}_transposed_", value)
    node.target, node.kwargs = torch.ops.aten.linear.default, {}
    node.args = (source, turned[name], bias)
    if not weight.users:
        model.graph.erase_node(weight)
    return True
