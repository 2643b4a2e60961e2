"""Check that one TOSA flatbuffer is a whole program, with the model's inputs and outputs in order.

Arm's partitioner splits a program into parts. The flatbuffer of a part lists its inputs in the
order of their first use. As a standalone program, it must have the inputs and outputs of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem
from typing import TYPE_CHECKING, Any

from qreg.backends.exported import name_of
from qreg.backends.unsupported import plain_name, way_out
from qreg.errors import InputError, UnsupportedOperatorError
from qreg.graph.provenance import in_code, in_module
from qreg_arm.compat import delegates_of, reordered

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

CONVERSIONS = "quantized_decomposed."
CALL, CAST = "executorch_call_delegate", "dim_order_ops._to_dim_order_copy.default"


def left_outside(edge: ExportedProgram) -> list[Node]:
    """Return the operators that Arm's partitioner did not delegate."""
    calls = [node for node in edge.graph.nodes if node.op == "call_function"]
    return [node for node in calls if name_of(node) != CALL and node.target is not getitem]


def _is_narrowed_input(node: Node) -> bool:
    """Whether a node converts an int64 input to int32; a TOSA program accepts int32 itself."""
    if name_of(node) != CAST or node.all_input_nodes[0].op != "placeholder":
        return False
    read, given = node.all_input_nodes[0].meta["val"].dtype, node.meta["val"].dtype
    consumers = {name_of(user) for user in node.users}
    return (str(read), str(given), consumers) == ("torch.int64", "torch.int32", {CALL})


def one_flatbuffer(edge: ExportedProgram) -> bytes:
    """Return the flatbuffer that a program was lowered to.

    Raises ``LoweringError`` for operators that are not in the flatbuffer, and ``InputError`` for a
    model whose inputs and outputs are not those of one flatbuffer.
    """
    _check_all_taken([node for node in left_outside(edge) if not _is_narrowed_input(node)])
    delegates = delegates_of(edge)
    if not delegates:
        raise InputError("the model computes nothing: its outputs are inputs or constants")
    if len(delegates) > 1:
        raise InputError(
            f"the model is split into {len(delegates)} TOSA programs (expected 1). Lower each part "
            "alone"
        )
    taken, given = _taken(edge), _given(edge)
    flatbuffer = bytes(delegates[0].processed_bytes)
    return reordered(flatbuffer, inputs=taken, outputs=given)


def _check_all_taken(left: Sequence[Node]) -> None:
    if left:
        found = [node for node in left if not name_of(node).startswith(CONVERSIONS)] or left
        names = dict.fromkeys(map(name_of, found))
        named = "; ".join(f"{name_of(n)}{in_module(n)}{in_code(n)}" for n in found)
        raise UnsupportedOperatorError(
            f"TOSA programs cannot have {named}: Arm's lowering does not support it",
            tuple(names),
            way_out(plain_name(each) for each in names),
        )


def _taken(edge: ExportedProgram) -> list[int]:
    """Return the position of each input of the model in the flatbuffer."""
    (call,) = (node for node in edge.graph.nodes if name_of(node) == CALL)
    entering = [n.all_input_nodes[0] if _is_narrowed_input(n) else n for n in call.args[1:]]
    taken = [node.name for node in entering]
    inputs = list(edge.graph_signature.user_inputs)
    for name in inputs:
        if name not in taken:
            raise InputError(f"input {name!r} is not used. Remove it from forward()")
    return [taken.index(name) for name in inputs]


def _given(edge: ExportedProgram) -> list[int]:
    """Return the position of each output of the model in the flatbuffer."""
    (output,) = (node for node in edge.graph.nodes if node.op == "output")
    results = [each for each in output.args[0] if hasattr(each, "meta")]  # others are not tensors
    places: list[Any] = [each.args[1] if each.target is getitem else None for each in results]
    for result, place in zip(results, places, strict=True):
        if place is None:
            raise InputError(
                f"output {result.name!r} is an input or a constant of the model, which TOSA "
                "does not support. Remove it from the outputs of forward()"
            )
    if len(set(places)) < len(places):
        raise InputError("two outputs are the same tensor. Return it once")
    return places
