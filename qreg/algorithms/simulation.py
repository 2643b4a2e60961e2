"""Run a prepared model as the converted one: observers round the values that pass through them.

``convert_pt2e`` replaces each observer by a pair of operators that quantize and dequantize, so the
two compute the same. Converting a model takes seconds; this takes one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter
from torchao.quantization.pt2e import FakeQuantizeBase

from qreg.graph.prepared import observers
from qreg.inputs.specs import cloned
from qreg.observers.layout import by_qparams
from qreg.utils.memory import return_filed

if TYPE_CHECKING:
    from torch.fx import Node


QDQ = torch.ops.quantized_decomposed
KEPT = 256 * 2**20  # bytes of rounded constants that are in memory next to the model
Round = Callable[[Tensor], Tensor]


def not_simulated(model: GraphModule) -> str | None:
    """Return why a prepared model cannot be simulated, or None if it can."""
    for node, observer in observers(model).items():
        problem = _unknown(observer)
        if problem:
            return f"the {type(observer).__name__} of {node.args[0]} {problem}"
    return None


def _unknown(observer: Any) -> str | None:
    if isinstance(observer, FakeQuantizeBase):
        return "is a fake quantizer, which belongs to quantization-aware training"
    if getattr(observer, "is_dynamic", False):
        known = {torch.per_tensor_affine, torch.per_tensor_symmetric}
        alike = getattr(observer, "qscheme", None) in known
        return None if alike else "computes qparams in a way that is not simulated"
    integral = observer.dtype in (torch.int8, torch.uint8, torch.int16, torch.int32)
    if not integral or not hasattr(observer, "quant_min") or observer.quant_min is None:
        return f"has dtype {observer.dtype}, which is not simulated"
    if not hasattr(observer, "calculate_qparams") or hasattr(observer, "block_size"):
        return "has qparams of groups, which are not simulated"
    return None


def rounding(observer: Any) -> Round:
    """Return a function that quantizes and dequantizes a tensor as an observer prescribes.

    The observer must be calibrated, unless it is dynamic.
    """
    if getattr(observer, "is_dynamic", False):
        return _dynamic(observer)
    scale, zero = observer.calculate_qparams()
    limits = int(observer.quant_min), int(observer.quant_max)
    if hasattr(observer, "group_size"):
        flat, at = scale.flatten(), zero.flatten().to(torch.int32)
        return lambda x: torch.fake_quantize_per_channel_affine(
            by_qparams(observer, x).flatten(0, -2), flat.to(x.dtype), at, 0, *limits
        ).reshape_as(x)
    if getattr(observer, "ch_axis", None) is not None and scale.numel() > 1:
        axis = observer.ch_axis
        return lambda x: torch.fake_quantize_per_channel_affine(
            x, scale.to(x.dtype), zero.to(torch.int32), axis, *limits
        )
    one, at = float(scale), int(zero)
    return lambda x: torch.fake_quantize_per_tensor_affine(x, one, at, *limits)


def _dynamic(observer: Any) -> Round:
    symmetric = observer.qscheme == torch.per_tensor_symmetric
    choose = QDQ.choose_qparams_symmetric if symmetric else QDQ.choose_qparams
    limits = int(observer.quant_min), int(observer.quant_max)
    eps, dtype = float(observer.eps), observer.dtype

    def rounded(x: Tensor) -> Tensor:
        scale, zero = choose.tensor(x, *limits, eps, dtype)
        return torch.fake_quantize_per_tensor_affine(x, float(scale), int(zero), *limits)

    return rounded


class Simulation(Interpreter):
    """Run a calibrated model with rounded values, on one batch after another.

    ``seen`` is called with each node and its value. Constants are rounded once if they fit into
    ``KEPT`` bytes, and otherwise for each batch; the last of them is kept in any case.
    """

    def __init__(self, model: GraphModule, seen: Callable[[Node, Any], None] | None = None) -> None:
        super().__init__(model)
        self._seen = seen
        self._rounds = _rounds(model)
        self._constants: dict[Node, Tensor] = {}
        self._room = KEPT

    def run_node(self, n: Node) -> Any:
        result = self._rounded(n) if n in self._rounds else super().run_node(n)
        if self._seen is not None:
            self._seen(n, result)
        return result

    def _rounded(self, node: Node) -> Tensor:
        if node in self._constants:
            return self._constants[node]
        (source,) = node.all_input_nodes
        value = self._rounds[node](self.env[source])
        if source.op == "get_attr":
            return_filed(self.env[source])
            self._keep(node, value)
        return value

    def _keep(self, node: Node, value: Tensor) -> None:
        """Keep a rounded constant in place of the oldest ones that do not fit next to it."""
        self._constants[node] = value
        self._room -= value.nbytes
        while self._room < 0 and len(self._constants) > 1:
            self._room += self._constants.pop(next(iter(self._constants))).nbytes


def _rounds(model: GraphModule) -> dict[Node, Round]:
    """Return the rounding of each observer node; one function for an observer that is shared."""
    made: dict[int, Round] = {}
    found: dict[Node, Round] = {}
    for node, observer in observers(model).items():
        if id(observer) not in made:
            made[id(observer)] = rounding(observer)
        found[node] = made[id(observer)]
    return found


class Walk:
    """Run an interpreter on several batches in turns, one operator after another.

    Iterating yields each node with its values for all batches, ahead of the next node. ``replace``
    gives a node other values. Only the values that are still read are kept.
    """

    def __init__(self, interpreter: Interpreter, batches: Sequence[tuple[Any, ...]]) -> None:
        self._interpreter = interpreter
        self._arguments = [iter(cloned(batch)) for batch in batches]
        self._values: list[dict[Node, Any]] = [{} for _ in batches]

    def __iter__(self) -> Iterator[tuple[Node, list[Any]]]:
        run = self._interpreter
        for node in run.graph.nodes:
            for arguments, values in zip(self._arguments, self._values, strict=True):
                run.args_iter, run.env = arguments, values
                values[node] = run.run_node(node)
            yield node, [values[node] for values in self._values]
            for values in self._values:
                for done in run.user_to_last_uses.get(node, []):
                    del values[done]

    def replace(self, node: Node, replaced: Sequence[Any]) -> None:
        """Replace the values of a node, one for each batch, for its consumers."""
        for values, value in zip(self._values, replaced, strict=True):
            values[node] = value

    def again(self, node: Node, given: Mapping[Node, Sequence[Any]]) -> list[Any]:
        """Run the node that was yielded last with other values for some of its inputs.

        ``given`` has one value for each batch. The values of the walk stay as they are.
        """
        outputs = []
        for number, values in enumerate(self._values):
            changed = {each: of_batches[number] for each, of_batches in given.items()}
            self._interpreter.env = {**values, **changed}
            outputs.append(self._interpreter.run_node(node))
        return outputs

    def values(self, node: Node) -> list[Any]:
        """Return the values of an input of the node that was yielded last, for all batches."""
        return [values[node] for values in self._values]
