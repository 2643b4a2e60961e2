"""Rewrites of a program ahead of its conversion, so that OpenVINO's results match the program's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from qreg.graph.insertion import call_before
from qreg.graph.nodes import argument, called, calls
from qreg.graph.operators import CONVOLUTIONS, COPIES, DIV, LINEAR, MATMUL, MUL, TRANSPOSED
from qreg.graph.provenance import origin, producer

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph, GraphModule, Node

FACTORS = (*MUL, *DIV)
PRODUCTS = (*CONVOLUTIONS, *TRANSPOSED, *LINEAR, *MATMUL, "aten.convolution.default")
AVERAGES = {f"aten.avg_pool{planes}d.default": planes for planes in (1, 2, 3)}


def copies(program: ExportedProgram) -> dict[str, str]:
    """Return the origin of each copy in a program, with the origin of its source.

    No kernel is left of a copy.
    """
    return {
        name: origin(producer(node)) or ""
        for node in calls(program.graph, COPIES)
        if (name := origin(node))
    }


def scaled(program: ExportedProgram) -> dict[str, str]:
    """Return the origin of each product that one factor scales, with the origin of the scaling.

    OpenVINO multiplies the weights of a convolution by the factor, and names what is left after the
    scaling.
    """
    return {
        name: origin(node) or ""
        for node in calls(program.graph, FACTORS)
        for product in node.all_input_nodes
        if called(product) in PRODUCTS and len(product.users) == 1 and (name := origin(product))
    }


def as_function(program: ExportedProgram) -> GraphModule:
    """Return the graph of a program with its weights; mutated inputs are additional outputs.

    The additional outputs precede the others. No value is returned twice, because the frontend
    merges equal outputs into one.
    """
    from torch.fx.graph import CodeGen

    model = program.module(check_guards=False)
    graph = model.graph
    graph.set_codegen(CodeGen())
    (end,) = [node for node in graph.nodes if node.op == "output"]
    values = [*_changed(graph), *_flat(end.args[0])]
    with graph.inserting_before(end):
        end.args = (tuple(_once(graph, values)),)
    model.recompile()
    return model


def _changed(graph: Graph) -> list[Node]:
    """Return the new values of mutated inputs; the copies that mutate the inputs are erased."""
    found: list[Any] = []
    for node in list(graph.nodes):
        if str(node.target) == "aten.copy_.default" and node.args[0].op == "placeholder":
            found.append(node.args[1])
            node.replace_all_uses_with(node.args[1])
            graph.erase_node(node)
    return found


def _flat(values: Any) -> list[Any]:
    if isinstance(values, (list, tuple)):
        return [each for value in values for each in _flat(value)]
    return [values]


def _once(graph: Graph, values: Sequence[Any]) -> Iterator[Any]:
    seen: set[Any] = set()
    for value in values:
        yield _again(graph, value) if value in seen else value
        seen.add(value)


def _again(graph: Graph, value: Node) -> Node:
    """Return the same value as a separate node; the frontend eliminates clones."""
    import torch

    if value.meta["val"].dtype is torch.bool:
        return graph.call_function(torch.ops.aten.logical_or.default, (value, value))
    return graph.call_function(torch.ops.aten.mul.Tensor, (value, 1))


def pad_ahead_of_averages(program: ExportedProgram) -> None:
    """Rewrite padding that an average pooling counts as a separate operator.

    openvino 2025.4 and 2026.4 move dequantizations downstream of an average. They then count the
    padding as the quantized value 0 instead of the zero point, even if the program averages in
    float.
    """
    for node in calls(program.graph, AVERAGES):
        padding = _padding(node, AVERAGES[called(node)])
        if any(padding) and argument(node, 5) is not False:
            _pad_ahead(node, padding)
    program.graph_module.recompile()


def oversized_averages_as_means(program: ExportedProgram) -> None:
    """Rewrite an average pooling whose window is larger than its input as a mean.

    That is possible in ceil mode. torch averages the values that the input has, and openvino 2025.4
    and 2026.4 refuse the window.
    """
    import torch

    for node in calls(program.graph, AVERAGES):
        planes = AVERAGES[called(node)]
        if _is_larger_than_its_input(node, planes):
            dims = list(range(-planes, 0))
            node.target, node.args = torch.ops.aten.mean.dim, (node.args[0], dims, True)
            node.kwargs = {}
    program.graph_module.recompile()


def _is_larger_than_its_input(node: Node, planes: int) -> bool:
    entering: Any = node.args[0]
    sizes, window = entering.meta["val"].shape[-planes:], _sizes(argument(node, 1), planes)
    result, divisor = node.meta["val"].shape[-planes:], argument(node, 6)
    if any(_padding(node, planes)) or divisor or not all(isinstance(each, int) for each in sizes):
        return False
    pairs = list(zip(sizes, window, strict=True))
    return set(result) == {1} and all(n <= k for n, k in pairs) and any(n < k for n, k in pairs)


def _padding(node: Node, planes: int) -> list[int]:
    return _sizes(argument(node, 3), planes)


def _sizes(given: Any, planes: int) -> list[int]:
    sizes = list(given) if isinstance(given, (list, tuple)) else [given or 0]
    return sizes * planes if len(sizes) == 1 else sizes


def _pad_ahead(node: Node, padding: list[int]) -> None:
    import torch

    entering: Any = node.args[0]
    amounts = [amount for size in reversed(padding) for amount in (size, size)]
    padded = call_before(node, torch.ops.aten.constant_pad_nd.default, entering, amounts, 0.0)
    node.args = (padded, *node.args[1:3], [0] * len(padding), *node.args[4:])
