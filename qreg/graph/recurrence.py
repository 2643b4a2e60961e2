"""Decompose recurrent layers into matrix products, which quantize, and gates, which do not.

Kernels of most backends compute ``gru``, ``lstm`` and ``rnn`` in float or not at all. Decomposed, a
layer is one product of the whole sequence with ``weight_ih``, and for each step one product of the
state with ``weight_hh``. The products of all steps read the same weight. Gates and state stay in
float: a rounding in each step would add up in the state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg.graph.layers import KEY, Part
from qreg.graph.nodes import called, calls, tensor_at
from qreg.graph.recurrent_steps import Emitter, Recurrence, Weights
from qreg.graph.rewrites import new_constant

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

    from qreg.plugins.types.backend import Mode

KINDS = ("gru", "lstm", "rnn_tanh", "rnn_relu")
LAYERS = {f"aten.{kind}.input": kind for kind in KINDS}
CELLS = {f"aten.{kind}_cell.default": kind for kind in KINDS}
RECURRENT = frozenset({*LAYERS, *CELLS})


@frozen
class _Arguments:
    """The arguments of ``gru.input``, ``lstm.input``, ``rnn_tanh.input`` and ``rnn_relu.input``."""

    sequence: Node
    state: Any
    weights: Sequence[Node]
    has_biases: bool
    layers: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool

    @classmethod
    def of(cls, node: Node) -> _Arguments:
        given: Any = node.args
        return cls(*given)

    @property
    def time(self) -> int:
        """The dimension of the steps."""
        return 1 if self.batch_first else 0

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def initial(self) -> list[Node]:
        """Return the initial state of all layers, two tensors for an LSTM."""
        return list(self.state) if isinstance(self.state, (list, tuple)) else [self.state]

    def weights_of(self, place: int) -> Weights:
        """Return the weights of one layer in one direction."""
        size = len(self.weights) // (self.layers * self.directions)
        own = list(self.weights[place * size : (place + 1) * size])
        biases = own[2:4] if self.has_biases else [None, None]
        return Weights(own[0], own[1], *biases, *own[4 if self.has_biases else 2 :])


def spell_out_recurrence(program: ExportedProgram) -> None:
    """Decompose the recurrent layers of a program, in place."""
    found = [node for node in calls(program.graph, RECURRENT) if why_whole(node) is None]
    for node in found:
        for old, new in unroll(Emitter(node, "fused", _unchanged)):
            program.graph_signature.replace_all_uses(old, new)
    if found:
        program.graph.eliminate_dead_code()


def without_recurrence(model: GraphModule, modes: frozenset[Mode]) -> GraphModule:
    """Decompose the recurrent layers of a graph: a transform for backends.

    Biases are summed ahead of time, except in QAT.
    """
    found = calls(model.graph, RECURRENT)
    trained = "qat" in modes
    fold = _unchanged if trained else partial(_folded, model)
    for node in found:
        reason = why_whole(node)
        if reason is None:
            unroll(Emitter(node, "added" if trained else "summed", fold))
        else:
            node.meta[KEY] = Part(node.name, called(node), reason)
    if found:
        model.graph.eliminate_dead_code()
        model.recompile()
    return model


def with_whole_recurrence(reason: str) -> Callable[[GraphModule, frozenset[Mode]], GraphModule]:
    """Return a transform that keeps recurrent layers whole and in float, for this reason."""

    def kept(model: GraphModule, modes: frozenset[Mode]) -> GraphModule:
        for node in calls(model.graph, RECURRENT):
            node.meta[KEY] = Part(node.name, called(node), reason)
        return model

    return kept


def _unchanged(node: Node) -> Node:
    return node


def _folded(model: GraphModule, node: Node) -> Node:
    """Replace an operator on constants with its value."""
    from torch.fx.node import map_arg

    if any(each.op != "get_attr" or _is_written(each) for each in node.all_input_nodes):
        return node
    args = map_arg(node.args, lambda each: tensor_at(each).detach())
    value = node.target(*args).clone()  # type: ignore[operator]
    made = new_constant(model, node, "_bias_", value)
    node.graph.erase_node(node)
    return made


def _is_written(node: Node) -> bool:
    from qreg.graph.mutation import Mutations

    return Mutations.of(node.graph).is_written(node)


def why_whole(node: Node) -> str | None:
    """Return why a recurrent layer cannot be decomposed, or None if it can."""
    if called(node) in CELLS:
        return None
    given = _Arguments.of(node)
    if not isinstance(given.sequence.meta["val"].shape[given.time], int):
        return (
            "its number of steps is dynamic, so it is not decomposed into products. Export the "
            "model for a fixed number of steps, or for one step with the state as input and output"
        )
    if given.train and given.dropout and given.layers > 1:
        return "it is in training mode, with a dropout between its layers: call eval()"
    return None


def unroll(emit: Emitter) -> list[tuple[str, str]]:
    """Replace a recurrent layer by its operators; return the names of old and new results.

    Results that nothing reads are left for the elimination of dead code.
    """
    node = emit.node
    is_cell = called(node) in CELLS
    results = (_cell if is_cell else _layers)(emit)
    renamed = []
    is_single = is_cell and len(results) == 1
    for old in [node] if is_single else list(node.users):
        new = results[0 if is_single else old.args[1]]  # type: ignore[index]
        old.replace_all_uses_with(new)
        renamed.append((old.name, new.name))
        node.graph.erase_node(old)
    if not is_single:
        node.graph.erase_node(node)
    return renamed


def _cell(emit: Emitter) -> list[Node]:
    """Emit one step, and return its state."""
    given: Any = emit.node.args
    value, state, *weights = given
    states = state if isinstance(state, (list, tuple)) else [state]
    recurrence = Recurrence(emit, CELLS[called(emit.node)], Weights(*weights))
    initial = [_read(emit, each) for each in states]
    return recurrence.step(recurrence.entering(value), initial)


def _layers(emit: Emitter) -> list[Node]:
    """Emit all layers and directions; return the output and the final states."""
    given, kind = _Arguments.of(emit.node), LAYERS[called(emit.node)]
    finals: list[list[Node]] = []
    value = given.sequence
    for layer in range(given.layers):
        outputs = []
        for direction in range(given.directions):
            place = layer * given.directions + direction
            recurrence = Recurrence(emit, kind, given.weights_of(place), _suffix(given, place))
            state = [_initial(emit, given, each, place) for each in given.initial()]
            output, final = recurrence.run(value, state, given.time, backwards=direction == 1)
            outputs.append(output)
            finals.append(final)
        value = outputs[0] if len(outputs) == 1 else emit("cat.default", outputs, 2)
    return [value, *(_joined(emit, given, each) for each in zip(*finals, strict=True))]


def _suffix(given: _Arguments, place: int) -> str:
    """Return the end of the names of a layer's weights in torch; ``""`` for a single layer."""
    if given.layers * given.directions == 1:
        return ""
    layer, direction = divmod(place, given.directions)
    return f"_l{layer}{'_reverse' if direction else ''}"


def _initial(emit: Emitter, given: _Arguments, states: Node, place: int) -> Node | None:
    """Return the state that a layer starts from, as one step of a sequence; None for zeros."""
    read = _read(emit, states)
    if read is None:
        return None
    single = given.layers * given.directions == 1
    own = read if single else emit("slice.Tensor", read, 0, place, place + 1)
    return emit("transpose.int", own, 0, 1) if given.batch_first else own


def _read(emit: Emitter, state: Node) -> Node | None:
    """Return a state to read, or None if it is zero in every run.

    A state that the model writes to is copied: the copy can be quantized.
    """
    if called(state) == "aten.zeros.default":
        return None
    if _is_written(state):
        return emit("clone.default", state)
    is_zero = state.op == "get_attr" and not tensor_at(state).count_nonzero()
    return None if is_zero else state


def _joined(emit: Emitter, given: _Arguments, states: Sequence[Node]) -> Node:
    """Return the final states of all layers in one tensor, (layers, batch, features)."""
    rows = [emit("transpose.int", each, 0, 1) if given.batch_first else each for each in states]
    return rows[0] if len(rows) == 1 else emit("cat.default", rows, 0)
