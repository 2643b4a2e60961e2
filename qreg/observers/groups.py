"""Observe a weight in groups: one scale for so many neighbouring elements of a row.

``convert_pt2e`` of torchao has operators for a scale per tensor and per channel only, and lets an
observer write others itself: those of torchao's ``quantize_``, so that a runtime that runs its
models runs these too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from qreg.observers.observers import ConstantPerChannelMinMaxObserver


class ConstantPerGroupMinMaxObserver(ConstantPerChannelMinMaxObserver):
    """Observe the range of each group of a weight of shape (rows, columns), once.

    ``min_val`` and ``max_val``, and the qparams, have the shape (rows, columns / group_size). With
    a symmetric scheme, the scale of a group is that of torchao's ``choose_qparams_affine``: its
    largest magnitude divided by half of ``quant_max - quant_min``. ``group_size`` divides the
    number of columns.

    With ``signed_scales``, ``quant_min`` is that magnitude, as in NNCF's symmetric weights: the
    scale is negative for a group whose largest magnitude is positive. Of -8 to 7, steps are then
    7.5 / 8 as large. ``quant_max`` may clip other values of the group by up to a step.
    """

    def __init__(self, group_size: int, *, signed_scales: bool = False, **spec: Any) -> None:
        super().__init__(**spec)
        self.group_size = group_size
        self.signed_scales = signed_scales

    def _forward(self, x_orig: Tensor) -> Tensor:
        # torchao 0.18.0: what forward calls; test_groups.py notices a change.
        values = x_orig.detach().to(self.min_val.dtype)
        groups = values.reshape(len(values), -1, self.group_size)
        low, high = torch.aminmax(groups, dim=-1)
        self.min_val.resize_(low.shape).copy_(low)
        self.max_val.resize_(high.shape).copy_(high)
        return x_orig

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Return a scale and a zero point per group; raise as ``ConstantMinMaxObserver``."""
        scale, zero_point = super().calculate_qparams()
        return (self._signed() if self.signed_scales else scale), zero_point

    def _signed(self) -> Tensor:
        magnitude = torch.maximum(-self.min_val, self.max_val)
        scale = (magnitude / -self.quant_min).clamp(min=self.eps)
        return torch.where(self.max_val > -self.min_val, -scale, scale)

    def convert(self, model: GraphModule, observer_node: Node) -> None:
        """Replace the call of this observer by a quantize and a dequantize: torchao calls this."""
        source = observer_node.args[0]
        scale, zero_point = self.calculate_qparams()
        affine = torch.ops.torchao
        with model.graph.inserting_before(observer_node):
            qparams = (
                _buffer(model, f"{observer_node.target}_scale", scale),
                _buffer(model, f"{observer_node.target}_zero_point", zero_point.to(torch.int8)),
            )
            limits = (self.dtype, self.quant_min, self.quant_max)
            given = ([1, self.group_size], *qparams, *limits)
            # torchao 0.18.0 folds these names of the operators, which have no overload.
            codes = model.graph.call_function(affine.quantize_affine, (source, *given))
            values = model.graph.call_function(affine.dequantize_affine, (codes, *given))
        observer_node.replace_all_uses_with(values)
        model.graph.erase_node(observer_node)


def _buffer(model: GraphModule, name: str, value: Tensor) -> Node:
    model.register_buffer(name, value.detach().clone())
    return model.graph.get_attr(name)
