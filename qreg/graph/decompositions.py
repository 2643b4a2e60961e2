"""Decompositions of operators that backends have no kernels for, into operators that they have.

Tables for ``ExportedProgram.run_decompositions``, and alone with ``decomposed``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram


def into_products() -> dict[Any, Callable[..., Any]]:
    """Return the decompositions into matrix products: of ``bilinear``, ``addmv`` and ``addbmm``."""
    import torch

    aten = torch.ops.aten
    return {
        aten.bilinear.default: bilinear,
        aten.addmv.default: addmv,
        aten.addbmm.default: addbmm,
    }


def into_planes() -> dict[Any, Callable[..., Any]]:
    """Return the decompositions of ``conv3d`` into sums of ``conv2d``."""
    import torch

    aten = torch.ops.aten
    return {aten.conv3d.default: conv3d_in_planes, aten.conv3d.padding: conv3d_with_padding}


def decomposed(
    program: ExportedProgram, table: Mapping[Any, Callable[..., Any]]
) -> ExportedProgram:
    """Return a program without the operators of a table; itself if it has none of them."""
    if not any(node.target in table for node in program.graph.nodes):
        return program
    made: ExportedProgram = program.run_decompositions(dict(table))
    return made


def bilinear(one: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``sum_ij one_i weight_oij other_j + bias_o``, for any number of batch dimensions."""
    outputs, inputs, others = weight.shape
    flat = weight.permute(1, 0, 2).reshape(inputs, outputs * others)
    left = (one @ flat).reshape(*one.shape[:-1], outputs, others)
    total = (left * other.unsqueeze(-2)).sum(-1)
    return total if bias is None else total + bias


def addmv(
    bias: Tensor, matrix: Tensor, vector: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """Return ``beta * bias + alpha * (matrix @ vector)``."""
    return _weighed((matrix @ vector.unsqueeze(-1)).squeeze(-1), bias, beta, alpha)


def addbmm(
    bias: Tensor, one: Tensor, other: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """Return ``beta * bias + alpha * sum_b (one_b @ other_b)``."""
    return _weighed((one @ other).sum(0), bias, beta, alpha)


def _weighed(product: Tensor, bias: Tensor, beta: float, alpha: float) -> Tensor:
    scaled = product if alpha == 1 else product * alpha
    if beta == 0:  # as in torch: the values of the bias are ignored, even NaN
        return scaled
    return scaled + (bias if beta == 1 else bias * beta)


def conv3d_with_padding(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: str = "valid",
    dilation: Sequence[int] = (1, 1, 1),
    groups: int = 1,
) -> Tensor:
    """Compute ``conv3d`` with named padding; ``"same"`` pads odd amounts at the end, as torch."""
    from torch.nn import functional

    gaps = _three(dilation)
    total = [gap * (size - 1) for gap, size in zip(gaps, weight.shape[2:], strict=True)]
    if padding == "same":
        sides = [(amount // 2, amount - amount // 2) for amount in reversed(total)]
        image = functional.pad(image, [amount for side in sides for amount in side])
    return conv3d_in_planes(image, weight, bias, stride, (0, 0, 0), gaps, groups)


def conv3d_in_planes(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
    groups: int = 1,
) -> Tensor:
    """Compute ``conv3d`` of an image (n, c, depth, height, width) as a sum of ``conv2d``s.

    Each plane of the kernel along depth is convolved with the input planes at its offset. These
    planes are merged into the batch dimension, which may be missing.
    """
    from torch.nn import functional

    if image.dim() == 4:
        one = image.unsqueeze(0)
        return conv3d_in_planes(one, weight, bias, stride, padding, dilation, groups).squeeze(0)
    steps, edges, gaps = (_three(each) for each in (stride, padding, dilation))
    image = functional.pad(image, (0, 0, 0, 0, edges[0], edges[0]))
    reach = gaps[0] * (weight.shape[2] - 1) + 1
    depth = (image.shape[2] - reach) // steps[0] + 1
    batch, channels, _, height, width = image.shape
    total: Tensor | None = None
    for plane in range(weight.shape[2]):
        start = plane * gaps[0]
        planes = image[:, :, start : start + (depth - 1) * steps[0] + 1 : steps[0]]
        flat = planes.transpose(1, 2).reshape(batch * depth, channels, height, width)
        kernel, shift = weight[:, :, plane], None if total is not None else bias
        part = functional.conv2d(flat, kernel, shift, steps[1:], edges[1:], gaps[1:], groups)
        total = part if total is None else total + part
    assert total is not None
    return total.reshape(batch, depth, *total.shape[1:]).transpose(1, 2)


def _three(values: Sequence[int]) -> list[int]:
    return list(values) * 3 if len(values) == 1 else list(values)
