"""Find the constants into which a factor for each channel of a value can be moved.

A value that is divided by a factor per channel, and multiplied by it where it is read, is the same
model. The division is not an operator: it is moved upstream, through operators that commute with
positive factors, into the weights that produce the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from attrs import evolve, frozen
from torch import Tensor
from torch.fx import GraphModule, Node

from qreg.algorithms.channels import Ranges, by_outputs
from qreg.algorithms.layers import BIAS, WEIGHT, Layer, layers
from qreg.graph.layers import part_of
from qreg.graph.mutation import Mutations
from qreg.graph.nodes import argument, called, is_node, order_of, sole_user
from qreg.graph.operators import (
    ADD,
    CLAMPS,
    COPIES,
    DIV,
    DROPOUTS,
    GLOBAL_POOLS,
    MAX_POOLS,
    MEANS,
    MUL,
    PADS,
    RELU,
    SUB,
    VIEWS,
)
from qreg.graph.values import constant_at, value_of
from qreg.plugins.types.algorithm import Candidate, Change

NORMS = {  # the positions of weight and bias
    "aten.layer_norm.default": (2, 3),
    "aten.rms_norm.default": (2,),
    "aten.group_norm.default": (2, 3),
}
ALIKE = (*RELU, "aten.leaky_relu.default", *DROPOUTS, *COPIES)
POOLS = (*MAX_POOLS, *GLOBAL_POOLS, "aten.avg_pool2d.default", "aten.adaptive_avg_pool1d.default")
SHIFTS = (*RELU, *CLAMPS, *DROPOUTS, *COPIES, *VIEWS)  # and permutations: commute with a shift too


@frozen(eq=False)
class Place:
    """A constant argument of an operator, with the axis of the channels in it.

    For the weight and the bias of ``layer``, the channels are the outputs of the layer.
    """

    node: Node
    position: int
    axis: int
    layer: Layer | None = None


@frozen(eq=False)
class Source:
    """Where a value comes from: the constants that scale it, and the operators downstream of them.

    ``layer`` is the layer that produces the value, if one does.
    """

    places: tuple[Place, ...]
    path: tuple[Node, ...] = ()
    layer: Layer | None = None

    @property
    def clamps(self) -> list[Node]:
        """The operators on the path with bounds, which do not move with a factor."""
        return [node for node in self.path if called(node) in CLAMPS]

    @property
    def commutes_with_shifts(self) -> bool:
        """Whether a shift of values above zero can be moved through the path."""
        return all(called(node) in SHIFTS or order_of(node) for node in self.path)


class Sources:
    """The layers of a candidate that may be rescaled, and the sources of values."""

    def __init__(self, candidate: Candidate) -> None:
        self._model, self._kept = candidate.reference, candidate.kept
        self._mutations = Mutations.of(self._model.graph)
        found = list(layers(self._model))
        readers = [str(node.target) for each in found if (node := constant_at(each.node, WEIGHT))]
        self.layers = {
            each.node: each
            for each, weight in zip(found, readers, strict=True)
            if readers.count(weight) == 1  # a changed weight that is shared is stored twice
            and self._is_free(each.node)
        }

    def of(self, value: Node, axis: int) -> Source | None:
        """Return the source of a value for an axis of it, counted from the first or the last."""
        fake = value.meta.get("val")
        if not isinstance(fake, Tensor) or not self._is_free(value):
            return None
        axis %= max(fake.dim(), 1)
        layer = self.layers.get(value)
        if layer is not None:
            return _of_layer(layer) if axis == fake.dim() + layer.channels else None
        name = called(value)
        if name in NORMS:
            return _of_norm(value, axis)
        if name in (*MUL, *ADD, *SUB, *DIV):
            return self._of_arithmetic(value, axis, name)
        through = _axis_ahead(value, axis, name)
        return None if through is None else self._upstream(value, value.args[0], through)

    def _is_free(self, node: Node) -> bool:
        read = self._mutations.is_state
        return (
            node.op == "call_function"
            and node.name not in self._kept
            and part_of(node) is None
            and not any(map(read, (node, *node.all_input_nodes)))
        )

    def _upstream(self, node: Node, read: object, axis: int) -> Source | None:
        """Return the source of what a node reads, if no other node reads it."""
        if not is_node(read) or sole_user(read) is not node:
            return None
        found = self.of(read, axis)
        return None if found is None else evolve(found, path=(*found.path, node))

    def _of_arithmetic(self, node: Node, axis: int, name: str) -> Source | None:
        """Return the source of a sum or product with a constant."""
        operands = list(node.args[:2])
        constants = [each for each in (0, 1) if not is_node(operands[each])]
        constants += [each for each in (0, 1) if constant_at(node, each) is not None]
        if len(constants) != 1 or len(node.kwargs) or len(node.args) > 2:
            return None
        (position,) = constants
        if name in DIV and position == 0:
            return None
        place = self._place(node, position, axis)
        if name in MUL and place is not None:
            return Source((place,))
        found = self._upstream(node, operands[1 - position], axis)
        if name in (*MUL, *DIV) or found is None or place is None:
            return found if name in (*MUL, *DIV) and self._fits(node, 1 - position) else None
        return evolve(found, places=(*found.places, place))

    def _fits(self, node: Node, position: int) -> bool:
        """Whether an operand has the shape of the result, so that axes are the same in both."""
        operand = node.args[position]
        assert is_node(operand)
        return bool(operand.meta["val"].shape == node.meta["val"].shape)

    def _place(self, node: Node, position: int, axis: int) -> Place | None:
        """Return a constant operand with a separate value for each channel of the result."""
        constant = constant_at(node, position)
        if constant is None or not self._fits(node, 1 - position):
            return None
        shape, own = node.meta["val"].shape, value_of(self._model, constant).shape
        at = axis - len(shape)  # from the last axis
        if -at > len(own) or own[at] != shape[at]:
            return None
        return Place(node, position, at)


def _of_layer(layer: Layer) -> Source:
    weight = Place(layer.node, WEIGHT, layer.axis, layer)
    bias = Place(layer.node, BIAS, 0)
    return Source((weight, bias) if layer.bias is not None else (weight,), layer=layer)


def _of_norm(node: Node, axis: int) -> Source | None:
    dims = node.meta["val"].dim()
    grouped = called(node) == "aten.group_norm.default"
    along = 1 if grouped else dims - 1
    one = grouped or len(node.args[1]) == 1  # type: ignore[arg-type]
    positions = NORMS[called(node)]
    given = [each for each in positions if argument(node, each) is not None]
    constant = all(constant_at(node, each) is not None for each in given)
    if axis != along or not one or not constant or positions[0] not in given:
        return None
    return Source(tuple(Place(node, each, 0) for each in given))


def _axis_ahead(node: Node, axis: int, name: str) -> int | None:
    """Return the axis of an operator's input that becomes an axis of its output.

    None for an operator that does not commute with a positive factor for each index of the axis.
    """
    dims: int = node.meta["val"].dim()
    if name in ALIKE or name in CLAMPS:
        return axis
    if (order := order_of(node)) is not None:
        return int(order[axis]) % dims
    if name in VIEWS:
        return _axis_of_view(node, axis)
    if name in POOLS:
        spatial = int(name.rpartition("d.")[0][-1])
        return axis if axis < dims - spatial else None
    if name in PADS:
        return axis if axis < dims - len(node.args[1]) // 2 and _pads_zeros(node) else None  # type: ignore[arg-type]
    return _axis_of_mean(node, axis) if name in MEANS else None


def _pads_zeros(node: Node) -> bool:
    if called(node) == "aten.pad.default":
        return argument(node, 2) not in (None, "constant") or not argument(node, 3)
    return not argument(node, 2)


def _axis_of_view(node: Node, axis: int) -> int | None:
    """Return the axis of the same size ahead of a view, with as many values downstream of it."""
    (source,) = node.all_input_nodes[:1]
    one, other = list(source.meta["val"].shape), list(node.meta["val"].shape)
    size, inner = other[axis], _product(other[axis + 1 :])
    for each in range(len(one)):
        if one[each] == size and inner is not None and _product(one[each + 1 :]) == inner:
            return each
    return None


def _product(sizes: list[object]) -> int | None:
    """Return a product of sizes, or None if one of them is not known."""
    found = 1
    for size in sizes:
        if not isinstance(size, int):
            return None
        found *= size
    return found


def _axis_of_mean(node: Node, axis: int) -> int | None:
    (source,) = node.all_input_nodes[:1]
    dims = source.meta["val"].dim()
    reduced = {each % dims for each in node.args[1]}  # type: ignore[union-attr]
    left = [each for each in range(dims) if argument(node, 2) or each not in reduced]
    return left[axis] if left[axis] not in reduced else None


def reached(source: Source, ranges: Mapping[str, Ranges]) -> Tensor | None:
    """Return how much of the bounds on the path each channel reaches: 1 or more, if it does.

    Without bounds, 0. None if that is not known, or a bound is above zero.
    """
    found = torch.zeros(())
    for clamp in source.clamps:
        seen = None if source.layer is None else ranges.get(source.layer.name)
        low, high = _bounds(clamp)
        if seen is None or (low is not None and low > 0) or (high is not None and high <= 0):
            return None
        if high is not None:
            found = torch.maximum(found, seen.high / high)
        if low:
            found = torch.maximum(found, seen.low / low)
    return found


def _bounds(clamp: Node) -> tuple[float | None, float | None]:
    name = called(clamp)
    if name == "aten.relu6.default":
        return 0.0, 6.0
    default = (-1.0, 1.0) if name == "aten.hardtanh.default" else (None, None)
    given = [*clamp.args[1:3], *default[len(clamp.args[1:3]) :]]
    low, high = (float(each) if isinstance(each, (int, float)) else None for each in given)
    return low, high


def within(factors: Tensor, part: Tensor) -> Tensor:
    """Return divisors after which no channel reaches a bound that it has not reached before.

    ``part`` is what :func:`reached` returns; a channel that reaches a bound keeps its scale.
    """
    return torch.where(part >= 1, 1.0, torch.maximum(factors, part))


class Rescaled:
    """The constants of a model with factors, and the changes that write them."""

    def __init__(self, model: GraphModule) -> None:
        self._model = model
        self._values: dict[tuple[Node, int], Tensor] = {}

    def __getitem__(self, place: tuple[Node, int]) -> Tensor:
        """Return the present value of a constant, by the operator and the position."""
        if place not in self._values:
            node, position = place
            constant = constant_at(node, position)
            assert constant is not None
            return value_of(self._model, constant).detach()
        return self._values[place]

    def __setitem__(self, place: tuple[Node, int], value: Tensor) -> None:
        self._values[place] = value

    def multiply(self, node: Node, position: int, factors: Tensor) -> None:
        """Multiply a constant by factors in a shape that broadcasts with it."""
        value = self[node, position]
        self[node, position] = (value * factors.to(value.dtype)).reshape(value.shape)

    def divide_source(self, source: Source, factors: Tensor) -> None:
        """Divide what a source produces by factors of shape (channels,)."""
        for each in source.places:
            shaped = 1 / factors
            if each.layer is not None:
                shaped = by_outputs(each.layer, shaped)
            else:
                dims = self[each.node, each.position].dim()
                shape = [1] * dims
                shape[each.axis] = -1
                shaped = shaped.reshape(shape)
            self.multiply(each.node, each.position, shaped)

    def changes(self) -> Iterator[Change]:
        """Yield one change for each operator with changed constants."""
        nodes = dict.fromkeys(node for node, _ in self._values)
        for node in nodes:
            constants = {at: value for (one, at), value in self._values.items() if one is node}
            yield Change(node.name, constants=constants)
