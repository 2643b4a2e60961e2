"""Formulas for the multiply-accumulates of operators, and the operators that have none.

A multiply-accumulate is one term of a sum of products: ``linear`` from 16 to 8 features has 128 for
each row. torch counts two floating-point operations for each (``torch.utils.flop_counter``, where
authors of operators register their formulas).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tag, Tensor

if TYPE_CHECKING:
    from torch._ops import OpOverload


# Called with all arguments of an operator, in the order of its schema, and with its first output.
Formula = Callable[..., int]


def _linear(out: Tensor, x: Tensor, *_: Any) -> int:
    return out.numel() * x.shape[-1]


def _matrix_vector(out: Tensor, matrix: Tensor, *_: Any) -> int:
    return matrix.numel()


def _added(formula: Formula) -> Formula:
    """Return the formula of an operator that adds its first argument to a product of the others."""
    return lambda out, added, *factors: formula(out, *factors)


def _batches_summed(out: Tensor, added: Tensor, one: Tensor, other: Tensor, *_: Any) -> int:
    return one.numel() * other.shape[-1]


def _convolution(out: Tensor, x: Tensor, weight: Tensor, *_: Any) -> int:
    """Count one filter for each output value; ``weight`` is (out, in / groups, *kernel)."""
    return out.numel() * prod(weight.shape[1:])


def _transposed(out: Tensor, x: Tensor, weight: Tensor, *_: Any) -> int:
    """Count one filter for each input value; ``weight`` is (in, out / groups, *kernel)."""
    return x.numel() * prod(weight.shape[1:])


def _either_convolution(out: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    """Count for ``aten.convolution``, whose seventh argument is ``transposed``."""
    return (_transposed if rest[4] else _convolution)(out, x, weight)


def _time_first_convolution(out: Tensor, x: Tensor, weight: Tensor, *_: Any) -> int:
    """Count for ``conv_tbc``, with a weight of (kernel, in, out)."""
    return out.numel() * prod(weight.shape[:2])


def _bilinear(out: Tensor, one: Tensor, other: Tensor, *_: Any) -> int:
    return out.numel() * one.shape[-1] * other.shape[-1]


def _attention(out: Tensor, query: Tensor, key: Tensor, *_: Any) -> int:
    """Count query times key and scores times value, for each query and head.

    A mask saves nothing. ``out`` is (..., heads, queries, features): key and value may have fewer
    heads.
    """
    length, features = key.shape[-2:]
    return out.numel() * length + prod(out.shape[:-1]) * length * features


def _cell(out: Tensor, x: Tensor, state: Any, *weights: Any) -> int:
    return _steps(x) * _matrices(weights)


def _recurrent(out: Tensor, x: Tensor, state: Any, weights: Any, *_: Any) -> int:
    """Count each matrix once for each step of each sequence.

    The matrices are those of the gates, both directions and the projections. Layers above the first
    count alike, since their input has as many steps.
    """
    return _steps(x) * _matrices(weights)


def _packed(out: Tensor, x: Tensor, batch_sizes: Tensor, state: Any, weights: Any, *_: Any) -> int:
    """Count for packed sequences: ``x`` contains the steps of all of them."""
    return _steps(x) * _matrices(weights)


def _steps(x: Tensor) -> int:
    return prod(x.shape[:-1])


def _matrices(weights: Any) -> int:
    tensors = [each for each in weights if isinstance(each, Tensor)]
    return sum(each.numel() for each in tensors if each.ndim == 2)


def _named(formula: Formula, *names: str) -> dict[str, Formula]:
    return dict.fromkeys(names, formula)


RECURRENT = ("gru", "lstm", "rnn_tanh", "rnn_relu")

FORMULAS: Mapping[str, Formula] = {
    **_named(_linear, "linear", "matmul", "mm", "bmm", "dot", "vdot", "_int_mm"),
    **_named(_linear, "_weight_int8pack_mm", "cdist", "_cdist_forward", "pdist", "_pdist_forward"),
    **_named(_linear, "_euclidean_dist"),
    **_named(_added(_linear), "addmm", "baddbmm", "_addmm_activation"),
    **_named(_matrix_vector, "mv"),
    **_named(_added(_matrix_vector), "addmv"),
    **_named(_batches_summed, "addbmm"),
    **_named(_convolution, "conv1d", "conv2d", "conv3d", "_slow_conv2d_forward"),
    **_named(_convolution, "mkldnn_convolution"),
    **_named(_convolution, "_conv_depthwise2d", "conv_depthwise3d"),
    **_named(_transposed, "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    **_named(_either_convolution, "convolution", "_convolution", "convolution_overrideable"),
    **_named(_time_first_convolution, "conv_tbc"),
    **_named(_bilinear, "bilinear"),
    **_named(_attention, "scaled_dot_product_attention", "_scaled_dot_product_attention_math"),
    **_named(_attention, "_scaled_dot_product_flash_attention_for_cpu"),
    **_named(_attention, "_scaled_dot_product_attention_math_for_mps"),
    **_named(_attention, "_scaled_dot_product_fused_attention_overrideable"),
    **_named(_attention, "_scaled_dot_product_flash_attention"),
    **_named(_attention, "_scaled_dot_product_efficient_attention"),
    **_named(_attention, "_scaled_dot_product_cudnn_attention"),
    **_named(_recurrent, *(f"{name}.input" for name in RECURRENT)),
    **_named(_packed, *(f"{name}.data" for name in RECURRENT)),
    **_named(_cell, *(f"{name}_cell" for name in RECURRENT)),
}

# Operators that pad, pick, sort, create or move values, or normalize, pool or interpolate them.
# Elementwise operators, reductions and views are not listed: torch tags or declares them.
NO_PRODUCTS = re.compile(
    r"""_?(
    adaptive_\w+ | add_relu | addr | affine_grid\w* | alpha_dropout | aminmax | arange | argsort
    | as_strided\w* | assert\w* | avg_pool\w+ | batch_norm\w* | bernoulli
    | binary_cross_entropy\w* | bincount | block_diag | bucketize | cat | cauchy | celu
    | channel_shuffle | chunk_cat | clone | col2im | complex | concat\w* | constant_pad_nd
    | copy | cross_entropy\w* | cum(max|min|prod|sum) | detach | diag\w* | dist | dropout\w*
    | embedding\w* | empty\w* | exponential | eye | fake_quantize_\w+ | feature_(alpha_)?dropout
    | fill | flip\w* | floor_divide | fractional_max_pool\w+ | full\w* | functional_assert_async
    | functional_sym_\w+ | fused_dropout | fused_moving_avg_\w+ | gather | geometric | ger | glu
    | grid_sampler\w* | group_norm | hann_window | hardswish | histc | huber_loss | im2col
    | index\w* | instance_norm | isin | kl_div | kthvalue | l1_loss | layer_norm | lift\w*
    | linalg_cross | linspace | local_scalar_dense | log_normal | log_sigmoid\w* | log_softmax
    | logcumsumexp | logspace | masked_\w+ | max_pool\w+ | max_unpool\w+ | median | meshgrid
    | mode | mse_loss | msort | multinomial | nanmedian | native_(batch|group|layer)_norm\w*
    | native_dropout | new_\w+ | nll_loss\w* | nonzero\w* | normal\w* | one_hot | ones\w*
    | outer | pack_padded_sequence | pad | pad_\w+ | pad_packed_sequence | pixel_(un)?shuffle
    | poisson | polar | prelu\w* | (quantize|dequantize|choose_qparams)_\w+ | rand\w*
    | reflection_pad\w+ | renorm | repeat\w* | replication_pad\w+ | reshape\w* | resize\w*
    | rms_norm | roll | rot90 | rrelu\w* | rsub | safe_softmax | scalar_tensor | scatter\w*
    | searchsorted | segment_reduce | select_scatter | slice_scatter | smooth_l1_loss
    | soft_margin_loss | softmax | softmin | sort | split\w* | stack | standard_gamma | sym_\w+
    | take\w* | tensor_split | tile | to_copy | to_dense | topk | trace | tri[lu]\w* | uniform
    | unique\w* | unsafe_\w+ | upsample\w+ | weight_norm\w* | zero\w*
    )""",
    re.VERBOSE,
)
NATIVE = frozenset({"aten", "prims", "quantized_decomposed"})
TAGS = frozenset({Tag.pointwise, Tag.reduction, Tag.view_copy, Tag.inplace_view})


def formula_of(operator: OpOverload) -> Formula | None:
    """Return the formula of a torch operator, in place or not; None if it has none here."""
    if operator.namespace != "aten":
        return None
    name, overload = _name(operator), operator._overloadname
    return FORMULAS.get(f"{name}.{overload}") or FORMULAS.get(name)


def has_no_products(operator: OpOverload) -> bool:
    """Whether an operator is known to have no multiply-accumulates."""
    if TAGS.intersection(_tags(operator)):
        return True
    if operator.namespace not in NATIVE:
        return False
    return _is_view(operator) or NO_PRODUCTS.fullmatch(_name(operator)) is not None


def _tags(operator: OpOverload) -> set[Tag]:
    """Return the tags of an operator; torch sets none on in-place ones, such as ``aten.abs_``."""
    packet = getattr(getattr(torch.ops, operator.namespace), _name(operator), None)
    return {*operator.tags, *(getattr(packet, operator._overloadname, operator).tags)}


def _is_view(operator: OpOverload) -> bool:
    """Whether an operator returns its input in another shape, and writes nothing."""
    aliases = [each.alias_info for each in operator._schema.returns]
    return bool(aliases) and all(each and not each.is_write for each in aliases)


def _name(operator: OpOverload) -> str:
    """Return ``"relu"`` for ``aten.relu_.default``."""
    return operator._opname.rstrip("_")
