"""What a converted program needs before executorch 1.4.1 lowers it.

The partitioner takes every operator between a dequantize and a quantize for an int8 one. That is
wrong for operators that only move or clip values: the delegate runs them on one set of parameters,
so with different ones before and behind, the program does not load or gives wrong numbers. This
happens to whatever was left in float between two quantized operators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.errors import LoweringError
from qreg.patterns import operator_name, sole_user
from qreg_xnnpack.annotators.shape import CARRYING
from qreg_xnnpack.decompositions import IN_3D, in_planes
from qreg_xnnpack.transforms import spell_out_stride

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

QUANTIZE = "quantized_decomposed.quantize_per_tensor.default"
DEQUANTIZE = "quantized_decomposed.dequantize_per_tensor.default"

# A mean may have other parameters behind than before.
ON_ONE_SET_OF_PARAMETERS = {target for each in CARRYING for target in each.targets}
ON_ONE_SET_OF_PARAMETERS -= {"aten.mean.dim"}
ON_ONE_SET_OF_PARAMETERS |= {"aten.cat.default"}

IMAGE = 4  # dimensions: batch, channels, height, width
BROADCASTING = {f"aten.{name}.Tensor" for name in ("add", "sub", "mul", "div")}
BROADCASTING |= {"aten.maximum.default", "aten.minimum.default"}


def ready(program: ExportedProgram) -> ExportedProgram:
    """The program with all of this done; changes it in place, but for convolutions in 3d.

    Raises ``LoweringError`` for an operator that neither the delegate nor ExecuTorch has.
    """
    _name_with_letters(program)
    _forget_provenance(program)
    for node in list(program.graph.nodes):
        name = operator_name(node.target) if node.op == "call_function" else ""
        if name == "aten.conv_transpose3d.input":
            raise LoweringError(f"{node.name}: ExecuTorch has no transposed convolution in 3d")
        if name == "aten.max_pool2d.default":
            spell_out_stride(node)
        if name in ON_ONE_SET_OF_PARAMETERS:
            _requantize_inputs(node)
        if name in BROADCASTING:
            _align_ranks(node)
    program.graph_module.recompile()
    if any(str(node.target) in IN_3D for node in program.graph.nodes):
        program = program.run_decompositions(in_planes())
    return program


def _name_with_letters(program: ExportedProgram) -> None:
    """Lets every parameter's name begin with a letter, as those of ``nn.Sequential`` do not.

    executorch 1.4.1 fails to find what it makes of a batch norm's parameters otherwise.
    """
    for spec in program.graph_signature.input_specs:
        if spec.target and spec.target[0].isdigit():
            renamed = f"module.{spec.target}"
            for values in (program.state_dict, program.constants):
                if spec.target in values:
                    values[renamed] = values.pop(spec.target)
            spec.target = renamed


def _forget_provenance(program: ExportedProgram) -> None:
    """Takes away from which nodes of earlier graphs each node came.

    Each of the hundred passes over a program copies that history deeply, a tenth of its time. The
    module path and the source line of a node are kept elsewhere.
    """
    for node in program.graph.nodes:
        node.meta.pop("from_node", None)


def _requantize_inputs(node: Node) -> None:
    """Gives the inputs of an operator the parameters that its output has.

    Moving, clipping and picking the largest commute with quantizing, so this changes no value.
    """
    user, inputs = sole_user(node), node.all_input_nodes
    if user is None or not _is(user, QUANTIZE) or not all(_is(each, DEQUANTIZE) for each in inputs):
        return
    for source in inputs:
        if _parameters(source) != _parameters(user):
            node.replace_input_with(source, _through(source, user, before=node))


def _align_ranks(node: Node) -> None:
    """Gives smaller float operands of an image leading dimensions of size 1.

    Behind a dynamically quantized convolution the delegate has the channels last, and takes the
    dimensions of a smaller operand, such as a scalar, for others: the program fails when it runs.
    """
    import torch

    for source in node.all_input_nodes if node.meta["val"].dim() == IMAGE else ():
        value = source.meta["val"]
        sizes = [1] * (IMAGE - value.dim()) + list(value.shape)
        static = all(isinstance(size, int) for size in sizes)
        if value.dim() < IMAGE and static and not _is(source, DEQUANTIZE):
            with node.graph.inserting_before(node):
                raised = node.graph.call_function(torch.ops.aten.reshape.default, (source, sizes))
            raised.meta["val"] = value.reshape(sizes)
            node.replace_input_with(source, raised)


def _is(node: Any, operator: str) -> bool:
    return str(getattr(node, "target", "")) == operator


def _parameters(node: Any) -> tuple[Any, ...]:
    return tuple(node.args[1:])


def _through(value: Node, parameters_of: Any, *, before: Node) -> Node:
    """``value``, quantized and dequantized with the parameters of another node."""
    import torch

    operators = torch.ops.quantized_decomposed
    graph, parameters = value.graph, _parameters(parameters_of)
    with graph.inserting_before(before):
        codes = graph.call_function(operators.quantize_per_tensor.default, (value, *parameters))
        result = graph.call_function(operators.dequantize_per_tensor.default, (codes, *parameters))
    codes.meta["val"] = value.meta["val"].to(parameters[-1])
    result.meta["val"] = value.meta["val"]
    return result
