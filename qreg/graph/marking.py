"""Replace the observers of a prepared graph by marks, with which it can be exported.

Prepared graphs themselves cannot be exported, and observers do not travel to other processes.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen

from qreg.graph.marks import OBSERVE
from qreg.graph.prepared import copied, observers


def marked(prepared: GraphModule, numbers: Mapping[Node, int]) -> GraphModule:
    """Return a copy of a prepared graph with marks instead of observers.

    ``numbers`` are the marks of calls of observers; other observers are removed. The copy takes the
    flat inputs of the model and returns one of the marked values. It shares the tensors of
    ``prepared``, which is not modified.
    """
    plain = copied(prepared)
    found = {node.name: number for node, number in numbers.items()}
    sources: list[Node] = []
    for node in observers(plain):
        (source,) = node.all_input_nodes
        if node.name in found:
            with plain.graph.inserting_before(node):
                plain.graph.call_function(OBSERVE, (source, found[node.name]))
            sources.append(source)
        node.replace_all_uses_with(source)
        plain.graph.erase_node(node)
        if not plain.graph.find_nodes(op="call_module", target=node.target):
            plain.delete_submodule(str(node.target))
    (output,) = plain.graph.find_nodes(op="output")
    output.args = ((sources[-1],),)  # an exported program returns something
    plain.graph.set_codegen(CodeGen())
    plain.graph.eliminate_dead_code()
    plain.recompile()
    return plain
