"""Attention of a decoder by executorch's own operator, which reads the filled part of a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.backends.packages import TRANSFORMERS, needs
from qreg.errors import InputError
from qreg_xnnpack.compat import attention_of

if TYPE_CHECKING:
    from torch import Tensor

NAME = "executorch"  # as transformers knows the attention
UNKNOWN = ("sliding_window", "softcap", "s_aux")  # arguments of transformers for other attentions


def use_custom_attention(model: Any) -> None:
    """Make a decoder of transformers call ``llama::custom_sdpa`` of executorch, in place.

    The operator is faster than attention in the delegate if the cache is long, since it reads only
    the keys up to the current position. An application must link executorch's library of custom
    operators to run the program.

    ``model`` is a ``PreTrainedModel``. Tokens attend to themselves and to all earlier tokens: their
    positions must follow each other, which a mask of padding or several texts in a row do not.

    Raises ``InstallationError`` without transformers, and ``InputError`` if the attention of the
    model cannot be chosen. Raises it when the model is called or exported with a mask, or its
    attention has a window, caps its scores, or is not told the positions.
    """
    with needs(TRANSFORMERS, "use_custom_attention"):
        from transformers import AttentionInterface, AttentionMaskInterface
    with needs("executorch", "use_custom_attention"):
        # The module registers the operator.
        from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    choose = getattr(model, "set_attn_implementation", None)
    if choose is not None:
        choose(NAME)
    if choose is None or attention_of(model) != NAME:
        raise InputError(
            f"model: the attention of a {type(model).__name__} cannot be chosen (expected a "
            "PreTrainedModel of transformers with its interface for attention). Pass the model "
            "that an exportable module wraps, or leave its attention as it is."
        )


def _no_mask(*given: Any, attention_mask: Tensor | None = None, **named: Any) -> None:
    """Return no mask: the operator knows which keys a token reads."""
    if attention_mask is not None:
        raise InputError(
            "attention_mask: executorch's attention accepts none (expected None). Pass one text "
            "without padding, or leave the attention of the model as it is."
        )


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **named: Any,
) -> tuple[Tensor, None]:
    """Attend to cached keys, in the form of transformers' ``AttentionInterface``.

    ``query`` is (batch, heads, tokens, depth), ``key`` and ``value`` are (batch, shared heads,
    positions of the cache, depth). The result is (batch, tokens, heads, depth).
    """
    import torch

    start = _start(module, attention_mask, named)
    turned = [each.transpose(1, 2).contiguous() for each in (query, key, value)]
    torch._check(start >= 0)  # type: ignore[no-untyped-call]
    torch._check(start <= key.shape[2] - query.shape[2])  # type: ignore[no-untyped-call]
    found = torch.ops.llama.custom_sdpa(*turned, start, None, 0.0, True, scaling)
    return found, None


def _start(module: Any, mask: Tensor | None, named: dict[str, Any]) -> Any:
    """Return the position of the first token as a number, which the export makes symbolic."""
    name = type(module).__name__
    other = [each for each in UNKNOWN if named.get(each) is not None]
    if not getattr(module, "is_causal", True):
        other.append("later tokens")
    if mask is not None or other:
        raise InputError(
            f"{name}: its attention depends on {', '.join(other) or 'a mask'}, which executorch's "
            "operator does not know. Leave the attention of the model as it is."
        )
    positions = named.get("position_ids", named.get("cache_position"))
    if positions is None or (positions.dim() == 2 and positions.shape[0] > 1):
        raise InputError(
            f"{name}: its attention needs the positions of one text (expected position_ids). Leave "
            "the attention of the model as it is."
        )
    return positions.flatten()[0].item()
