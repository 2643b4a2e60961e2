"""The scales of weights in groups in half precision, in which the program stores them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.graph.nodes import calls, tensor_at
from qreg_openvino.weights_in_groups import DEQUANTIZE, SCALE

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import GraphModule


def with_stored_scales(converted: GraphModule) -> GraphModule:
    """Round the scales of groups to float16, in place.

    Those of a weight with a scale beyond the normal numbers of float16 stay as they are.
    """
    for dequantize in calls(converted.graph, (DEQUANTIZE,)):
        scale: Any = dequantize.args[SCALE]
        if scale.op == "get_attr" and _are_normal(stored := tensor_at(scale).detach()):
            stored.copy_(stored.half())
    return converted


def _are_normal(scales: Tensor) -> bool:
    import torch

    sizes, limits = scales.abs(), torch.finfo(torch.float16)
    return bool(sizes.min() >= limits.smallest_normal and sizes.max() <= limits.max)
