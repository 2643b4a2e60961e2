"""Weights and biases that several calls share, copied if the delegate requires separate ones.

executorch 1.4.1 rewrites the constants of a program for the call that reads them:

1. Each call adds a dimension to the weight of a 1d convolution.
2. A weight is laid out for the first kind of operator that reads it: convolution, transposed
   convolution, linear. A second kind computes wrong values.
3. An int8 call quantizes its bias to int32 by the scale of its input; later calls read the same
   bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qreg.graph.nodes import argument

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.export.graph_signature import InputSpec
    from torch.fx import Node

WEIGHT_POSITION = {"aten.conv": 1, "aten.linear.": 1, "aten.addmm.": 2, "aten.mm.": 1}
IN_1D = 3  # dimensions of a convolution's weight: output channels, input channels, width
DEQUANTIZE = ("quantized_decomposed.dequantize", "torchao.dequantize")

Use = tuple["Node", "Node"]  # a call, and what it reads: a constant, or what dequantizes it


def separate_constants(program: ExportedProgram) -> None:
    """Copy a parameter or buffer for each call that cannot share it; rewrite the program in place.

    The copies share the memory of the original tensor.
    """
    specs = program.graph_signature.input_specs
    constants = {each.arg.name: each for each in specs if each.target is not None}
    copies: list[InputSpec] = []
    for node in program.graph.find_nodes(op="placeholder"):
        for uses in _groups(node)[1:] if node.name in constants else ():
            copy, spec = _copied(program, node, constants[node.name])
            copies.insert(0, spec)
            for call, read in uses:
                _let_read(call, read, node, copy)
    specs[:0] = copies


def _groups(constant: Node) -> list[list[Use]]:
    """Group the uses of a constant that can share it; unmodified reads come first."""
    groups: dict[object, list[Use]] = {}
    for call, read in _uses(constant):
        groups.setdefault(_kind(call, read), []).append((call, read))
    return [uses for _, uses in sorted(groups.items(), key=lambda each: each[0] is not None)]


def _uses(constant: Node) -> Iterator[Use]:
    for user in constant.users:
        if str(user.target).startswith(DEQUANTIZE) and user.args[0] is constant:
            yield from ((call, user) for call in user.users)
        else:
            yield user, constant


def _kind(call: Node, read: Node) -> object:
    """Return a key that is equal for uses that can share a constant; None for unmodified reads."""
    name = str(call.target)
    position = next((at for kind, at in WEIGHT_POSITION.items() if name.startswith(kind)), None)
    if position is None or (read is argument(call, 0) and not name.startswith("aten.addmm.")):
        return None
    in_1d = name.startswith("aten.conv") and read.meta["val"].dim() == IN_1D
    if in_1d or read is not argument(call, position):
        return call
    transposed = argument(call, 6) if name.startswith("aten.convolution.") else None
    return name, transposed


def _copied(program: ExportedProgram, constant: Node, spec: InputSpec) -> tuple[Node, InputSpec]:
    """Insert a first placeholder for the same tensor; return it with its input spec."""
    from torch.export.graph_signature import InputSpec, TensorArgument

    first = next(iter(program.graph.nodes))
    with program.graph.inserting_before(first):
        copy = program.graph.placeholder(f"{constant.name}_of_one_call")
    copy.target = copy.name
    copy.meta = dict(constant.meta)
    for values in (program.state_dict, program.constants):
        if spec.target in values:
            values[copy.name] = values[spec.target]
    return copy, InputSpec(spec.kind, TensorArgument(copy.name), copy.name, spec.persistent)


def _let_read(call: Node, read: Node, constant: Node, copy: Node) -> None:
    if read is not constant:
        with read.graph.inserting_before(call):
            own = read.graph.node_copy(read)
        own.replace_input_with(constant, copy)
        copy = own
    call.replace_input_with(read, copy)
