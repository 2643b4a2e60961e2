"""Turn each ``addmm`` and matmul by a constant, such as the Conv1D of GPT-2, into a linear.

Their weights have the shape (in, out). Kernels with packed weights store rows of the shape
(out, in), and have groups along these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qreg.graph.equivalents import is_row
from qreg.graph.nodes import is_in_place, operator_name, shape_of, tensor_at
from qreg.graph.operators import ADDMM, MATMUL
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
    """Rewrite a product; ``turned`` has the transposed weights of earlier calls, by their names."""
    import torch

    found = _operands(node)
    if found is None or found[1].op != "get_attr" or mutations.is_state(found[1]):
        return False
    if not tensor_at(found[1]).is_floating_point():  # runtimes have no linears of integers
        return False
    source, weight, bias = found
    name = str(weight.target)
    if name not in turned:
        value = tensor_at(weight).detach().t().contiguous()
        turned[name] = new_constant(model, node, f"{name.replace('.', '_')}_transposed_", value)
    node.target, node.kwargs = torch.ops.aten.linear.default, {}
    node.args = (source, turned[name], *([] if bias is None else [bias]))
    if not weight.users:
        model.graph.erase_node(weight)
    return True


def _operands(node: Node) -> tuple[Node, Node, Node | None] | None:
    """Return the input, the weight (in, out) and the bias of what a linear computes too."""
    name = operator_name(node.target)
    if name in ADDMM and not is_in_place(node):
        bias, source, weight = cast("tuple[Node, Node, Node]", node.args[:3])
        factors = {node.kwargs.get(name, 1) for name in ("alpha", "beta")}
        return (source, weight, bias) if factors == {1} and is_row(bias, node) else None
    if name in MATMUL:
        source, weight = cast("tuple[Node, Node]", node.args[:2])
        return (source, weight, None) if len(shape_of(weight)) == 2 else None
    return None
