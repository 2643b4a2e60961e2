"""The operators of one recurrent layer in one direction, for all of its steps.

Formulas: ``torch.nn.GRU``, ``LSTM``, ``RNN``. A state of zeros has no product. There are three ways
to add the biases:

- ``"summed"``: both are one bias of the product of the input, except for that of a GRU's new gate.
  The products of the state, which share a weight, have no bias that a backend would have to copy.
- ``"fused"``: each is the bias of its product, as float kernels compute it.
- ``"added"``: that of the state is added separately. It stays a parameter that is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attrs import define, field, frozen

from qreg.graph.insertion import call_before
from qreg.graph.layers import KEY, Part
from qreg.graph.nodes import called

if TYPE_CHECKING:
    from torch.fx import Node

Biases: TypeAlias = Literal["summed", "fused", "added"]

GATES = (
    "gates and state stay in float: a rounding in each step would add up in the state. The matrix "
    "products of the layer are separate operators"
)


@frozen
class Weights:
    """The weights of one layer in one direction; ``projection`` is that of ``proj_size``."""

    input: Node
    hidden: Node
    input_bias: Node | None = None
    hidden_bias: Node | None = None
    projection: Node | None = None


@define
class Emitter:
    """Inserts the operators of a layer ahead of it, with its provenance."""

    node: Node
    biases: Biases
    fold: Callable[[Node], Node]
    rows: dict[str, str] = field(factory=dict, init=False)

    def __call__(self, name: str, *args: Any) -> Node:
        """Insert an operator of the gates, ``"add.Tensor"``."""
        return self._marked(_call(self.node, name, *args), self.node.name, GATES)

    def constant(self, name: str, *args: Any) -> Node:
        """Insert an operator on weights."""
        made = self(name, *args)
        return self.fold(made)

    def product(self, value: Node, weight: Node, bias: Node | None, role: str) -> Node:
        """Insert a matrix product; all products of one role are one row of reports."""
        args = (value, weight) if bias is None else (value, weight, bias)
        made = _call(self.node, "linear.default", *args, called=f"{self.node.name}_{role}")
        return self._marked(made, self.rows.setdefault(role, made.name), "")

    def _marked(self, made: Node, row: str, reason: str) -> Node:
        made.meta[KEY] = Part(row, called(self.node), reason)
        return made


def _call(node: Node, name: str, *args: Any, called: str | None = None) -> Node:
    import torch

    packet, overload = name.split(".")
    target = getattr(getattr(torch.ops.aten, packet), overload)
    return call_before(node, target, *args, inherit=True, name=called)


@define(slots=False)
class Recurrence:
    """One layer in one direction.

    A step of a sequence has shape (batch, 1, n) or (1, batch, n), that of a cell (batch, n).
    ``suffix`` ends the names of the products.
    """

    emit: Emitter
    kind: str
    weights: Weights
    suffix: str = ""

    def run(
        self, sequence: Node, state: list[Node | None], time: int, *, backwards: bool
    ) -> tuple[Node, list[Node]]:
        """Emit all steps; return the output sequence and the final state."""
        steps = sequence.meta["val"].shape[time]
        parts = self.entering(sequence)
        outputs: dict[int, Node] = {}
        for step in reversed(range(steps)) if backwards else range(steps):
            own = [self._cut(part, time, step, 1) for part in parts] if steps > 1 else parts
            state = list(self.step(own, state))
            assert state[0] is not None
            outputs[step] = state[0]
        ordered = [outputs[step] for step in range(steps)]
        output = ordered[0] if steps == 1 else self.emit("cat.default", ordered, time)
        return output, state  # type: ignore[return-value]

    def entering(self, sequence: Node) -> list[Node]:
        """Emit the product of the input with ``weight_ih``, in the parts that a step reads."""
        weights = self.weights
        product = self.emit.product(sequence, weights.input, self._bias(), f"input{self.suffix}")
        if self.kind != "gru":
            return [product]
        size = self._size
        return [self._last(product, 0, 2 * size), self._last(product, 2 * size, size)]

    @property
    def _size(self) -> int:
        rows = {"gru": 3, "lstm": 4}.get(self.kind, 1)
        return int(self.weights.hidden.meta["val"].shape[0]) // rows

    def _bias(self) -> Node | None:
        """Return the bias of the product of the input."""
        one, other = self.weights.input_bias, self.weights.hidden_bias
        if one is None or other is None or self.emit.biases != "summed":
            return one
        add = self.emit.constant
        if self.kind != "gru":
            return add("add.Tensor", one, other)
        outer = add("slice.Tensor", other, 0, 0, 2 * self._size)
        padded = add("constant_pad_nd.default", outer, [0, self._size])
        return add("add.Tensor", one, padded)

    def step(self, entering: Sequence[Node], state: Sequence[Node | None]) -> list[Node]:
        """Emit one step and return its state; a state of None is zero."""
        if self.kind == "gru":
            return [self._gru(entering[0], entering[1], state[0])]
        if self.kind == "lstm":
            return self._lstm(entering[0], state[0], state[1])
        total = self._with_hidden(entering[0], state[0])
        return [self.emit(f"{self.kind.removeprefix('rnn_')}.default", total)]

    def _gru(self, outer: Node, new: Node, hidden: Node | None) -> Node:
        emit, size, inner = self.emit, self._size, self._new_bias
        part = self._hidden(hidden)
        if part is not None:
            outer = emit("add.Tensor", outer, self._last(part, 0, 2 * size))
            part = self._last(part, 2 * size, size)
            inner = part if inner is None else emit("add.Tensor", part, inner)
        both = emit("sigmoid.default", outer)
        reset, update = self._last(both, 0, size), self._last(both, size, size)
        if inner is not None:
            new = emit("add.Tensor", new, emit("mul.Tensor", reset, inner))
        new = emit("tanh.default", new)
        if hidden is None:
            return emit("sub.Tensor", new, emit("mul.Tensor", update, new))
        kept = emit("mul.Tensor", update, emit("sub.Tensor", hidden, new))
        return emit("add.Tensor", new, kept)

    @cached_property
    def _new_bias(self) -> Node | None:
        """The bias of the state for a GRU's new gate, inside of a product with the reset gate."""
        bias, size = self.weights.hidden_bias, self._size
        if bias is None or self.emit.biases != "summed":
            return None
        return self.emit.constant("slice.Tensor", bias, 0, 2 * size, 3 * size)

    def _lstm(self, entering: Node, hidden: Node | None, cell: Node | None) -> list[Node]:
        emit, size = self.emit, self._size
        total = self._with_hidden(entering, hidden)
        gates = emit("sigmoid.default", total)  # also of the candidate: one call costs less
        candidate = emit("tanh.default", self._last(total, 2 * size, size))
        cell_new = emit("mul.Tensor", self._last(gates, 0, size), candidate)
        if cell is not None:
            kept = emit("mul.Tensor", self._last(gates, size, size), cell)
            cell_new = emit("add.Tensor", kept, cell_new)
        output = self._last(gates, 3 * size, size)
        made = emit("mul.Tensor", output, emit("tanh.default", cell_new))
        if self.weights.projection is not None:
            made = emit.product(made, self.weights.projection, None, f"projection{self.suffix}")
        return [made, cell_new]

    def _with_hidden(self, entering: Node, hidden: Node | None) -> Node:
        part = self._hidden(hidden)
        return entering if part is None else self.emit("add.Tensor", entering, part)

    def _hidden(self, hidden: Node | None) -> Node | None:
        """Emit the product of a state with ``weight_hh``, and its bias; None if both are zero."""
        ways, bias = self.emit.biases, self.weights.hidden_bias
        bias = None if ways == "summed" else bias
        if hidden is None:
            return bias
        fused = bias if ways == "fused" else None
        part = self.emit.product(hidden, self.weights.hidden, fused, f"hidden{self.suffix}")
        return part if bias is fused else self.emit("add.Tensor", part, bias)

    def _last(self, value: Node, first: int, size: int) -> Node:
        return self._cut(value, value.meta["val"].dim() - 1, first, size)

    def _cut(self, value: Node, dim: int, first: int, size: int) -> Node:
        return self.emit("slice.Tensor", value, dim, first, first + size)
