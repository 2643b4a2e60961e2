"""Checks for scales that XNNPACK does not support, made ahead of the lowering.

Such a program does not load, with a bare number as the error, or returns wrong values. The scales
result from a range that 8 bits cannot represent: raw features of many orders of magnitude, and an
output so small that one of its steps is less than a thousandth of a step of the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qreg.errors import LoweringError, keeping_in_float
from qreg.graph.nodes import argument, called, operator_name, sole_user
from qreg.graph.operators import (
    ADD,
    CLAMPS,
    DEQUANTIZE,
    DEQUANTIZE_CHANNELS,
    MUL,
    QUANTIZE,
    RELU,
    SUB,
)
from qreg.graph.provenance import module_path, origin

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

Limit = Callable[["Node", float, Mapping[str, "Tensor"]], "str | None"]

# XNNPACK, src/operators: fully-connected-nc.c, convolution-nhwc.c and deconvolution-nhwc.c reject
# input scale * weight scale / output scale from this limit on with "unsupported parameter".
REQUANTIZATION = 256.0
# src/microparams-init.c: a sum multiplies by input scale / output scale in fixed point, with
# 20 - log2(ratio) fractional bits, and rounds at the last one.
SUM_RATIO = 2.0**20
# A product multiplies two differences of int8 values by scale * scale / output scale in float, and
# converts the result to 32 bits.
PRODUCT_RATIO = 2.0**31 / 255**2
BIAS = 2.0**31  # executorch quantizes it to int32, by input scale * weight scale

WEIGHTED = ("aten.conv", "aten.linear.", "aten.addmm.")


def check_scales(program: ExportedProgram) -> None:
    """Raise ``LoweringError`` for the first int8 operator whose scales are beyond the limits.

    The error names the operator, its scales and what to do.
    """
    given = {**program.state_dict, **program.constants}
    specs = program.graph_signature.input_specs
    constants = {each.arg.name: given[each.target] for each in specs if each.target in given}
    for node in program.graph.nodes:
        limit = _limit_of(called(node))
        output = _output_scale(node) if limit else None
        problem = limit(node, output, constants) if limit and output else None
        if problem:
            raise _beyond(node, problem)


def _limit_of(name: str) -> Limit | None:
    if name.startswith(WEIGHTED):
        return _of_a_weighted
    if name in (*ADD, *SUB):
        return _of_a_sum
    return _of_a_product if name in MUL else None


def _beyond(node: Node, problem: str) -> LoweringError:
    name, module = str(origin(node) or node.name), module_path(node)
    by_type = f'set_operator_type("{operator_name(node.target)}", None)'
    scope = f'set_module_name("{module}", None)' if module else by_type
    fact = f"{name}: {problem}. Normalize its input: 8 bits cannot represent the range"
    return LoweringError(fact, [name], keeping_in_float([scope]))


def _of_a_weighted(node: Node, output: float, constants: Mapping[str, Tensor]) -> str | None:
    addmm = str(node.target).startswith("aten.addmm.")
    source, weight, bias = (argument(node, at) for at in ((1, 2, 0) if addmm else (0, 1, 2)))
    entering, scales = _scale(source), _weight_scales(weight, constants)
    if entering is None or scales is None:
        return None
    largest = float(scales.max())
    problem = _ratio(REQUANTIZATION, output, input=entering, weight=largest)
    shift = constants.get(getattr(bias, "name", ""))
    if problem or shift is None or shift.numel() != scales.numel() != 1:
        return problem
    steps = float((shift.detach().abs().flatten() / (entering * scales)).max())
    if steps < BIAS:
        return None
    least = float(scales.min())
    return (
        f"its bias is {steps:.3g} steps of input scale {entering:.3g} * weight scale {least:.3g} "
        "(expected less than 2**31 for XNNPACK)"
    )


def _of_a_sum(node: Node, output: float, constants: Mapping[str, Tensor]) -> str | None:
    scales = [_scale(each) for each in node.args[:2]]
    if None in scales:
        return None
    return _ratio(SUM_RATIO, output, input=max(filter(None, scales)))


def _of_a_product(node: Node, output: float, constants: Mapping[str, Tensor]) -> str | None:
    first, second = (_scale(each) for each in node.args[:2])
    if first is None or second is None:
        return None
    return _ratio(PRODUCT_RATIO, output, input=first, other=second)


def _ratio(limit: float, output: float, **scales: float) -> str | None:
    ratio = math.prod(scales.values()) / output
    if ratio < limit:
        return None
    spelled = " * ".join(f"{name} scale {value:.3g}" for name, value in scales.items())
    return (
        f"{spelled} / output scale {output:.3g} is {ratio:.3g} "
        f"(expected less than {limit:.0f} for XNNPACK)"
    )


def _scale(value: Any) -> float | None:
    """Return the scale of a value that is dequantized with static qparams, or None."""
    return float(value.args[1]) if str(getattr(value, "target", "")) == DEQUANTIZE else None


def _weight_scales(weight: Any, constants: Mapping[str, Tensor]) -> Tensor | None:
    import torch

    if str(getattr(weight, "target", "")) == DEQUANTIZE_CHANNELS:
        return constants.get(weight.args[1].name)
    scale = _scale(weight)
    return None if scale is None else torch.tensor([scale])


def _output_scale(node: Node) -> float | None:
    """Return the scale of the output, downstream of a clamp that is fused."""
    user = sole_user(node)
    while user is not None and operator_name(user.target) in (*RELU, *CLAMPS):
        user = sole_user(user)
    return float(user.args[1]) if user is not None and str(user.target) == QUANTIZE else None  # type: ignore[arg-type]
