"""The operators of a prepared graph that have a constant weight, as algorithms see them."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen
from torch import Tensor
from torch.fx import GraphModule, Node

from qreg.graph.nodes import argument, called
from qreg.graph.values import constant_at, value_of

INPUT, WEIGHT, BIAS = 0, 1, 2  # the positions of the arguments
CONVOLUTIONS = {f"aten.conv{n}d.default": n for n in (1, 2, 3)}
TRANSPOSED = {
    "aten.conv_transpose1d.default": 1,
    "aten.conv_transpose2d.input": 2,
    "aten.conv_transpose3d.input": 3,
}
LINEAR = "aten.linear.default"
GROUPS = {**dict.fromkeys(CONVOLUTIONS, 6), **dict.fromkeys(TRANSPOSED, 6)}


@frozen(eq=False)
class Layer:
    """A linear layer or convolution with a constant weight.

    ``node`` is the operator. ``channels`` is the axis of its output channels in its output, and
    ``axis`` their axis in the weight. For a transposed convolution of several groups, the output
    channels are the groups times that axis. ``bias`` is None for an operator without one.
    """

    node: Node
    weight: Tensor
    bias: Tensor | None
    channels: int
    axis: int
    groups: int

    @property
    def name(self) -> str:
        return str(self.node.name)

    @property
    def is_transposed(self) -> bool:
        """Whether it is a transposed convolution."""
        return called(self.node) in TRANSPOSED

    @property
    def outputs(self) -> int:
        """The number of output channels."""
        size = int(self.weight.shape[self.axis])
        return size * self.groups if self.axis == 1 else size

    def sums(self, output: Tensor) -> Tensor:
        """Return the sum over an output for each channel, in double precision."""
        return output.double().movedim(self.channels, 0).flatten(1).sum(1)

    def along_channels(self, values: Tensor, output: Tensor) -> Tensor:
        """Return values of shape (channels,) in a shape that broadcasts with an output."""
        shape = [1] * output.dim()
        shape[self.channels] = -1
        return values.reshape(shape)


def layers(model: GraphModule) -> Iterator[Layer]:
    """Yield the layers of a prepared or float graph in order.

    A layer whose weight is computed while the model runs is left out.
    """
    for node in model.graph.nodes:
        layer = layer_at(node)
        if layer is not None:
            yield layer


def layer_at(node: Node) -> Layer | None:
    """Return the layer that a node of a prepared or float graph calls, None for another node."""
    name = called(node)
    model = node.graph.owning_module
    if model is None or (name != LINEAR and name not in GROUPS):
        return None
    weight, bias = constant_at(node, WEIGHT), constant_at(node, BIAS)
    if weight is None or (bias is None and argument(node, BIAS) is not None):
        return None
    spatial = {**CONVOLUTIONS, **TRANSPOSED}.get(name, 0)
    groups = argument(node, GROUPS[name]) if name in GROUPS else None
    return Layer(
        node=node,
        weight=value_of(model, weight),
        bias=None if bias is None else value_of(model, bias),
        channels=-1 - spatial,
        axis=1 if name in TRANSPOSED else 0,
        groups=1 if groups is None else int(groups),
    )
