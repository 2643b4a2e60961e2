"""What ONNX Runtime's CPU provider runs in integers, as rules that refuse a match with a reason.

Found by running programs and reading the graph that the runtime made of them (onnxruntime 1.32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.patterns import argument
from qreg.rules import is_static, shape_of

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Match


def batched(match: Match, config: QuantizationConfig) -> str | None:
    """An input with a batch dimension."""
    if len(shape_of(match.inputs[0])) == len(shape_of(match.weight)):
        return None
    return "convolution of an image without a batch dimension: give it one"


def nonempty(match: Match, config: QuantizationConfig) -> str | None:
    """Tensors with elements, which have a range."""
    empty = [node for node in (*match.inputs, match.output) if 0 in shape_of(node)]
    return f"{empty[0].name} has no elements" if empty else None


def unscaled_product(match: Match, config: QuantizationConfig) -> str | None:
    """``addmm`` without factors."""
    factors = {name: match.anchor.kwargs.get(name, 1) for name in ("alpha", "beta")}
    return None if set(factors.values()) == {1} else f"addmm with {factors}: both must be 1"


def matrices(match: Match, config: QuantizationConfig) -> str | None:
    """Operands of two dimensions or more."""
    vectors = [node for node in match.anchor.all_input_nodes if len(shape_of(node)) < 2]
    return f"{vectors[0].name} is a vector: MatMul takes matrices" if vectors else None


def plain_matrix(match: Match, config: QuantizationConfig) -> str | None:
    """A weight of two dimensions, the columns of which have scales of their own."""
    rank = len(shape_of(match.weight))
    return None if rank == 2 else f"its weight has {rank} dimensions: the kernel takes 2"


def with_dimensions(match: Match, config: QuantizationConfig) -> str | None:
    """An output with dimensions."""
    return None if shape_of(match.output) else f"{match.output.name} has no dimensions"


def plain_maximum(match: Match, config: QuantizationConfig) -> str | None:
    """A maximum of a tensor with a batch dimension."""
    planes = 2 if "2d" in str(match.anchor.target) else 1
    rank = len(shape_of(match.inputs[0]))
    fits = rank == planes + 2
    return None if fits else f"max pooling of a {rank}d tensor: give it a batch dimension"


def pooled_to_one(match: Match, config: QuantizationConfig) -> str | None:
    """Adaptive pooling of images down to one value a channel: a global average."""
    rank, size = len(shape_of(match.inputs[0])), _listed(argument(match.anchor, 1))
    if rank != 4:
        return f"adaptive pooling of a {rank}d tensor: the kernel takes 4d"
    return None if set(size) == {1} else f"adaptive pooling to {size}: the kernel takes [1, 1]"


def spatial_mean(match: Match, config: QuantizationConfig) -> str | None:
    """The mean over the last two dimensions of an image."""
    rank, dims = len(shape_of(match.inputs[0])), argument(match.anchor, 1)
    wanted = rank == 4 and bool(dims) and sorted(dim % rank for dim in dims) == [2, 3]
    if not wanted or match.anchor.kwargs.get("dtype") is not None:
        return f"mean over {dims} of a {rank}d tensor: the kernel takes [2, 3] of 4d"
    return None


def doubled(match: Match, config: QuantizationConfig) -> str | None:
    """An image that is enlarged by whole factors."""
    before, after = shape_of(match.inputs[0])[2:], shape_of(match.output)[2:]
    if not (is_static(match.inputs[0]) and is_static(match.output)):
        return "its size is dynamic: whether the factors are whole is not known"
    whole = all(big % small == 0 for big, small in zip(after, before, strict=True))
    return None if whole else f"enlarged from {before} to {after}: the factors are not whole"


def _listed(sizes: Any) -> list[Any]:
    return list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]
