"""The boundary of a converted graph: quantized inputs, and outputs that are dequantized.

A program takes and gives integers if these are left to its caller. The values that the operators
read do not change by that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import asdict, field, frozen

from qreg.graph.nodes import called
from qreg.graph.operators import DEQUANTIZE, QUANTIZE

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Graph, GraphModule, Node


@frozen
class QParams:
    """How a quantized tensor represents values: ``scale * (integer - zero_point)``.

    ``dtype`` is torch's name of the integers, such as ``"int8"``; ``quant_min`` and ``quant_max``
    are the least and the largest integer of the tensor.
    """

    scale: float
    zero_point: int
    quant_min: int
    quant_max: int
    dtype: str

    @classmethod
    def of(cls, node: Node) -> QParams:
        """Return those of a call of ``QUANTIZE`` or ``DEQUANTIZE``."""
        scale, zero_point, low, high, dtype = node.args[1:6]
        return cls(scale, zero_point, low, high, str(dtype).removeprefix("torch."))  # type: ignore[arg-type]

    @property
    def _arguments(self) -> tuple[Any, ...]:
        import torch

        ends = self.quant_min, self.quant_max
        return self.scale, self.zero_point, *ends, getattr(torch, self.dtype)

    def quantized(self, values: Tensor) -> Tensor:
        """Return float32 values as integers: rounded to even, and clamped to the range."""
        import torch

        quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
        found: Tensor = quantize(values, *self._arguments)
        return found

    def dequantized(self, integers: Tensor) -> Tensor:
        """Return the float32 values of integers."""
        import torch

        dequantize = torch.ops.quantized_decomposed.dequantize_per_tensor.default
        found: Tensor = dequantize(integers, *self._arguments)
        return found

    def __str__(self) -> str:
        return f"{self.dtype}, scale {self.scale:g}, zero point {self.zero_point}"


@frozen
class Boundary:
    """The qparams of inputs and outputs by position, each among the tensors of its side."""

    inputs: Mapping[int, QParams] = field(factory=dict)
    outputs: Mapping[int, QParams] = field(factory=dict)

    @property
    def present(self) -> bool:
        return bool(self.inputs or self.outputs)

    def taken(self, sample: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return float arguments of a model as its program takes them."""
        return self._mapped(sample, lambda qparams: qparams.quantized)

    def given(self, sample: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return arguments that a program takes as its float model takes them."""
        return self._mapped(sample, lambda qparams: qparams.dequantized)

    def _mapped(self, sample: tuple[Any, ...], change: Callable[[QParams], Any]) -> tuple[Any, ...]:
        if not self.inputs:
            return sample
        from torch.utils import _pytree as pytree

        leaves, structure = pytree.tree_flatten(sample)
        known = self.inputs
        changed = [change(known[n])(x) if n in known else x for n, x in enumerate(leaves)]
        found: tuple[Any, ...] = pytree.tree_unflatten(changed, structure)
        return found

    def table(self, inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, Any]:
        """Return the qparams by the names of inputs and outputs, for the metadata of a format."""
        return {
            "inputs": {inputs[n]: asdict(each) for n, each in self.inputs.items()},
            "outputs": {outputs[n]: asdict(each) for n, each in self.outputs.items()},
        }

    def constants(self, inputs: Sequence[str], prefix: str = "") -> dict[str, float | int]:
        """Return each scale and zero point by a name, for a format with constant methods.

        ``x_scale`` and ``x_zero_point`` are those of input ``x``, ``output_0_scale`` that of the
        first output.
        """
        known = {
            **{inputs[number]: each for number, each in self.inputs.items()},
            **{f"output_{number}": each for number, each in self.outputs.items()},
        }
        found: dict[str, float | int] = {}
        for name, qparams in known.items():
            found[f"{prefix}{name}_scale"] = qparams.scale
            found[f"{prefix}{name}_zero_point"] = qparams.zero_point
        return found

    def outputs_in_float(self, outputs: tuple[Tensor, ...], changed: int) -> tuple[Tensor, ...]:
        """Return what a program returned in float; first come the ``changed`` inputs."""
        if not self.outputs:
            return outputs
        known = {number + changed: qparams for number, qparams in self.outputs.items()}
        return tuple(
            known[number].dequantized(each) if number in known else each
            for number, each in enumerate(outputs)
        )

    @classmethod
    def of_program(cls, program: ExportedProgram) -> Boundary:
        """Return those of a program that takes and gives integers, for a plugin that lowers it.

        The positions of outputs count the inputs that the program changes, which it returns first.
        """
        wanted = set(program.graph_signature.user_inputs)
        inputs = [node for node in placeholders(program.graph) if node.name in wanted]
        read = {number: _given(node) for number, node in enumerate(inputs)}
        outputs = enumerate(output_tensors(program.graph))
        return cls(
            {number: each for number, each in read.items() if each is not None},
            {number: QParams.of(node) for number, node in outputs if called(node) == QUANTIZE},
        )


def placeholders(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op == "placeholder"]


def output_tensors(graph: Graph) -> list[Node]:
    """Return the outputs that are tensors, in order, without sizes and constants."""
    import torch
    from torch.fx import Node
    from torch.utils import _pytree as pytree

    leaves = pytree.tree_leaves(graph.output_node().args)
    nodes = [leaf for leaf in leaves if isinstance(leaf, Node)]
    return [
        node for node in nodes if not isinstance(node.meta.get("val"), torch.types.py_sym_types)
    ]


def quantizations(node: Node) -> set[QParams]:
    """Return the qparams with which the readers of an input quantize it."""
    return {QParams.of(user) for user in node.users if called(user) == QUANTIZE}


def float_readers(node: Node) -> list[Node]:
    """Return the readers of an input that do not quantize it with constant qparams."""
    return [user for user in node.users if called(user) != QUANTIZE]


def without_boundary(model: GraphModule, boundary: Boundary) -> GraphModule:
    """Return a converted graph that takes and gives the integers of a boundary.

    Each input of the boundary is read by quantizations only, with its qparams. Each output is a
    dequantization.
    """
    from torch.utils import _pytree as pytree

    from qreg.graph.prepared import copied

    made = copied(model)
    inputs, outputs = placeholders(made.graph), output_tensors(made.graph)
    end = made.graph.output_node()
    given = {outputs[number]: outputs[number].all_input_nodes[0] for number in boundary.outputs}
    positions = iter(range(len(outputs)))
    end.args = pytree.tree_map_only(
        lambda leaf: leaf in outputs,
        lambda leaf: given[leaf] if next(positions) in boundary.outputs else leaf,
        end.args,
    )
    for number, qparams in boundary.inputs.items():
        _take(inputs[number], qparams)
    for node in given:
        if not node.users:
            made.graph.erase_node(node)
    made.recompile()
    return made


def _take(node: Node, qparams: QParams) -> None:
    import torch

    node.meta["val"] = node.meta["val"].to(getattr(torch, qparams.dtype))
    for user in list(node.users):
        if called(user) == QUANTIZE:
            user.replace_all_uses_with(node)
            node.graph.erase_node(user)


def _given(node: Node) -> QParams | None:
    """Return the qparams of an input that is only dequantized, by equal qparams."""
    users = list(node.users)
    if not users or any(called(user) != DEQUANTIZE for user in users):
        return None
    found = {QParams.of(user) for user in users}
    return found.pop() if len(found) == 1 else None
