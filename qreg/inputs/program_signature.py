"""The inputs and outputs of a program: their names, shapes and dtypes, in plain values."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from qreg.graph.boundary import QParams
from qreg.graph.compat import least_and_largest_size, signature_of
from qreg.inputs.structure import names, plain_structure
from qreg.utils.shapes import spelled

if TYPE_CHECKING:
    from torch.fx import GraphModule


@frozen
class TensorInfo:
    """An input or output of a program.

    ``shape`` has None for a dynamic dimension. ``dtype`` is the name of a dtype of torch, such as
    ``"float32"``. ``limits`` are the least and the largest size of each dynamic dimension, by its
    position; the largest is None for a dimension without a limit. ``qparams`` are the scale and the
    zero point of a tensor that is quantized; None for any other.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    limits: Mapping[int, tuple[int, int | None]] = field(factory=dict)
    qparams: QParams | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} {spelled(self.shape)}"


@frozen
class ProgramSignature:
    """The flat input and output tensors of a program, in order.

    An output is named by its place in what the model returns, such as ``logits`` or ``1.0``; the
    only output of a model is ``output``.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    @classmethod
    def of_graph(cls, reference: GraphModule) -> ProgramSignature:
        """Return the signature of a program that was made from an annotated graph."""
        inputs = [node for node in reference.graph.nodes if node.op == "placeholder"]
        return cls(
            tuple(_info(node.name, node.meta["val"]) for node in inputs),
            tuple(_info(name, node.meta["val"]) for name, node in _outputs(reference)),
        )

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.inputs))}) -> ({', '.join(map(str, self.outputs))})"


def _outputs(model: GraphModule) -> Iterator[tuple[str, Node]]:
    """Yield the names and the nodes of the outputs that are tensors."""
    (values,) = model.graph.output_node().args
    leaves = pytree.tree_leaves(values)
    info = signature_of(model)
    known = info.out_spec if info is not None else None
    structure = plain_structure(known or pytree.tree_structure(values))
    for name, leaf in zip(names(structure), leaves, strict=True):
        if isinstance(leaf, Node) and isinstance(leaf.meta.get("val"), Tensor):
            yield name or "output", leaf


def _info(name: str, value: Tensor) -> TensorInfo:
    sizes = [size if isinstance(size, int) else None for size in value.shape]
    limits = {
        position: _limits(size)
        for position, size in enumerate(value.shape)
        if not isinstance(size, int)
    }
    return TensorInfo(name, tuple(sizes), str(value.dtype).removeprefix("torch."), limits)


def _limits(size: Any) -> tuple[int, int | None]:
    least, largest = least_and_largest_size(size)
    return least, None if largest == sys.maxsize else largest
