"""Check the prompt of a user against the model that is to continue it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from qreg.errors import InputError
from qreg.generation.decoder import Decoder
from qreg.inputs.arrays import as_tensor, is_array

FORM = "expected a list of token ids, or a tensor of shape (length,) or (1, length)"


def prompt_of(prompt: Sequence[int] | Tensor, decoders: Mapping[str, Decoder]) -> list[int]:
    """Return the ids of a prompt. Raises ``InputError`` if the model cannot read them."""
    decoder = next(iter(decoders.values()))
    ids = _ids(prompt)
    if not ids:
        raise InputError(f"prompt: it is empty ({FORM}). Begin with the model's first token.")
    for place, token in enumerate(ids):
        if not 0 <= token < decoder.vocabulary:
            raise InputError(
                f"prompt: token {token} at place {place} is not in the vocabulary (expected 0 to "
                f"{decoder.vocabulary - 1}). Use the tokenizer of this model."
            )
    if len(ids) > decoder.cache:
        raise InputError(
            f"prompt: it has {len(ids)} tokens (expected at most {decoder.cache}, the length of "
            "the cache). Shorten it, or export the model with a longer cache."
        )
    return ids


def _ids(prompt: object) -> list[int]:
    value = as_tensor(prompt) if is_array(prompt) else prompt
    if isinstance(value, Tensor):
        rows = value[None] if value.dim() == 1 else value
        if rows.dim() != 2 or len(rows) != 1 or value.dtype.is_floating_point:
            shape, dtype = tuple(value.shape), str(value.dtype).removeprefix("torch.")
            raise InputError(
                f"prompt: it has shape {shape} and dtype {dtype} ({FORM}). Pass one sequence."
            )
        return [int(token) for token in rows[0]]
    if not isinstance(value, (list, tuple)) or not all(type(each) is int for each in value):
        raise InputError(
            f"prompt: it is a {type(value).__name__} of other values ({FORM}). "
            "Use the tokenizer of this model."
        )
    return list(value)


def check_count(count: int, given: int, decoders: Mapping[str, Decoder]) -> None:
    """Raise ``InputError`` unless the cache has a position for each token that is read.

    The last token is returned and not read.
    """
    cache = next(iter(decoders.values())).cache
    room = cache - given + 1
    if type(count) is not int or count < 1:
        raise InputError(
            f"max_new_tokens: it is {count!r} (expected an integer of at least 1). "
            f"The cache has room for {room}."
        )
    if count > room:
        raise InputError(
            f"max_new_tokens: {count} and a prompt of {given} do not fit in the cache of "
            f"{cache} positions (expected at most {room}). Generate fewer tokens, or "
            "export the model with a longer cache."
        )
