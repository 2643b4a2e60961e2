"""How a bundled program is called: its inputs and outputs, as the model had them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import torch
from attrs import frozen
from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from qreg.errors import InputError
from qreg.graph.boundary import Boundary, QParams
from qreg.graph.compat import signature_of
from qreg.inputs.program_signature import ProgramSignature, TensorInfo
from qreg.inputs.quantized_io import in_integers
from qreg.inputs.signature import Signature
from qreg.inputs.specs import InputSpec
from qreg.inputs.structure import nested, plain_structure, spec_of

if TYPE_CHECKING:
    from torch.fx import GraphModule

CONSTANT = (str, int, float, bool, type(None))


@frozen
class Interface:
    """The flat tensors of a program, and the nested values that they are parts of.

    ``arguments`` is the structure of ``(args, kwargs)``, with the ``names`` of the arguments.
    ``returns`` is that of the outputs. ``constants`` are the outputs that are not tensors, by their
    positions among all.
    """

    signature: ProgramSignature
    arguments: Any
    names: tuple[str, ...]
    returns: Any
    constants: Mapping[int, str | int | float | bool | None]

    @classmethod
    def of(cls, reference: GraphModule, converted: GraphModule, boundary: Boundary) -> Interface:
        """Return the interface of a program that was made from a model.

        ``boundary`` has the inputs and outputs that are integers in the program.

        Raises ``InputError`` for an output that only the model can compute.
        """
        called = Signature.of_graph(converted)
        (values,) = reference.graph.output_node().args
        leaves, structure = pytree.tree_flatten(values)
        info = signature_of(converted)
        returned = info.out_spec if info is not None and info.out_spec is not None else structure
        return cls(
            in_integers(ProgramSignature.of_graph(reference), boundary),
            plain_structure(called.structure),
            tuple(called.names),
            plain_structure(returned),
            {at: _constant(at, each) for at, each in enumerate(leaves) if not _is_tensor(each)},
        )

    def plain(self) -> dict[str, Any]:
        """Return the parts of a manifest."""
        return {
            "inputs": [attrs.asdict(each) for each in self.signature.inputs],
            "outputs": [attrs.asdict(each) for each in self.signature.outputs],
            "arguments": {"structure": self.arguments, "names": list(self.names)},
            "returns": {"structure": self.returns, "constants": dict(self.constants)},
        }

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Interface:
        """Return the interface in a manifest. Raises ``ValueError`` for values of another form."""
        try:
            arguments, returns = values["arguments"], values["returns"]
            spec_of(arguments["structure"]), spec_of(returns["structure"])
            return cls(
                ProgramSignature(
                    *(tuple(map(_info, values[each])) for each in ("inputs", "outputs"))
                ),
                arguments["structure"],
                tuple(arguments["names"]),
                returns["structure"],
                {int(at): each for at, each in returns["constants"].items()},
            )
        except (KeyError, TypeError, AttributeError) as cause:
            raise ValueError(repr(cause)) from cause

    @property
    def boundary(self) -> Boundary:
        """The qparams of the inputs and outputs that are integers."""
        sides = self.signature.inputs, self.signature.outputs
        return Boundary(
            *({n: each.qparams for n, each in enumerate(side) if each.qparams} for side in sides)
        )

    @property
    def accepted(self) -> Signature:
        """The signature that batches of users are checked with."""
        specs = [
            InputSpec(each.name, each.shape, getattr(torch, each.dtype))
            for each in self.signature.inputs
        ]
        return Signature(specs, spec_of(self.arguments), list(self.names))

    def returned(self, outputs: Sequence[Tensor]) -> Any:
        """Return flat outputs of the program as the model returns them."""
        tensors = iter(outputs)
        count = len(outputs) + len(self.constants)
        leaves = [self.constants[n] if n in self.constants else next(tensors) for n in range(count)]
        return nested(self.returns, leaves)


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, Node) and isinstance(leaf.meta.get("val"), Tensor)


def _constant(at: int, leaf: Any) -> Any:
    if not isinstance(leaf, CONSTANT):
        raise InputError(
            f"output {at} of the model is a size or another value that only the model computes "
            "(expected tensors, numbers, strings and None). Return its tensor alone to save a "
            "bundle."
        )
    return leaf


def _info(values: Mapping[str, Any]) -> TensorInfo:
    if not isinstance(getattr(torch, values["dtype"], None), torch.dtype):
        raise ValueError(f"{values['dtype']!r} is not a dtype")
    if not all(size is None or type(size) is int for size in values["shape"]):
        raise ValueError(f"{values['shape']!r} is not a shape")
    limits = {int(at): tuple(each) for at, each in values["limits"].items()}
    qparams = _qparams(values.get("qparams"))
    return TensorInfo(values["name"], tuple(values["shape"]), values["dtype"], limits, qparams)


def _qparams(values: Mapping[str, Any] | None) -> QParams | None:
    if values is None:
        return None
    found = QParams(**values)
    numbers = found.zero_point, found.quant_min, found.quant_max
    if not isinstance(found.scale, float) or not all(type(each) is int for each in numbers):
        raise ValueError(f"{found!r} are not qparams")
    return found
