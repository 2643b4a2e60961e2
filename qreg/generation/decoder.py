"""What generation needs to know about a language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from attrs import frozen

from qreg.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from qreg.plugins.types.interface import Interface, Port

TOKENS, POSITIONS = 2, 1  # the dimensions of the two inputs
WHOLE = ("int32", "int64")
WRAP = (
    "Wrap the model in transformers.integrations.executorch."
    "TorchExportableModuleForDecoderOnlyLM, and quantize that."
)


@frozen
class Decoder:
    """The inputs, the cache and the vocabulary of a language model that keeps keys and values.

    ``tokens`` and ``positions`` are the places of the two inputs: token ids of shape (1, length)
    and their positions in the cache of shape (length,); ``dtypes`` are the types of the inputs.
    ``width`` is the largest number of tokens of one call. ``cache`` is the number of positions in
    the cache, whose buffers are ``buffers``. ``vocabulary`` is the number of logits of a position.
    """

    tokens: int
    positions: int
    dtypes: tuple[str, ...]
    width: int
    cache: int
    buffers: frozenset[str]
    vocabulary: int

    @classmethod
    def of(cls, model: Interface) -> Decoder:
        """Read the interface of a model.

        Raises ``InputError`` for a model without a cache, with other inputs, or of one length.
        """
        if not model.caches:
            raise InputError(
                "model: it has no cache of keys and values (expected buffers that it writes to at "
                f"the positions of the tokens). {WRAP}"
            )
        ranks = [_rank(each) for each in model.inputs]
        if sorted(ranks) != [POSITIONS, TOKENS] or len({p.shape[-1] for p in model.inputs}) > 1:
            raise InputError(
                f"model: its inputs are {', '.join(map(str, model.inputs))} (expected the ids of "
                f"tokens of shape (1, length) and their positions of shape (length,)). {WRAP}"
            )
        tokens, cache = ranks.index(TOKENS), min(model.caches.values())
        return cls(
            tokens=tokens,
            positions=ranks.index(POSITIONS),
            dtypes=tuple(each.dtype for each in model.inputs),
            width=min(_width(model.inputs[tokens]), cache),
            cache=cache,
            buffers=frozenset(model.caches),
            vocabulary=model.outputs[0].shape[-1],
        )

    def inputs(self, ids: list[int], start: int) -> tuple[Tensor, ...]:
        """Return the inputs of a call with tokens that begin at a position."""
        positions = torch.arange(start, start + len(ids))
        given = {self.tokens: torch.tensor([ids]), self.positions: positions}
        return tuple(given[n].to(getattr(torch, dtype)) for n, dtype in enumerate(self.dtypes))


def decoders_of(interfaces: Mapping[str, Interface]) -> dict[str, Decoder]:
    """Return the methods of a model that read tokens, by name.

    Other methods, such as those that return constants, are skipped. Raises ``InputError`` if there
    is none, if they do not share their caches, and if their vocabularies differ.
    """
    found, errors = {}, []
    for name, interface in interfaces.items():
        try:
            found[name] = Decoder.of(interface)
        except InputError as error:
            errors.append(error)
    if not found:
        raise errors[0] if errors else InputError("model: it has no method (expected one).")
    if len({(each.vocabulary, each.buffers) for each in found.values()}) > 1:
        held = (
            f"{name!r} has {each.vocabulary} tokens and {', '.join(sorted(each.buffers))}"
            for name, each in found.items()
        )
        raise InputError(
            f"model: its methods do not share a vocabulary and caches: {'; '.join(held)} (expected "
            "equal ones). Export the methods from one model, in which the buffers have one name."
        )
    return found


def method_for(count: int, decoders: Mapping[str, Decoder]) -> str:
    """Return the method for the fewest tokens that reads so many in a call, or the widest."""
    widths = {name: decoder.width for name, decoder in decoders.items()}
    enough = {name: width for name, width in widths.items() if width >= count}
    return min(enough, key=enough.__getitem__) if enough else max(widths, key=widths.__getitem__)


def _rank(port: Port) -> int:
    """Return the rank of an input of integers for one sequence; 0 for another input."""
    alone = len(port.shape) != TOKENS or port.shape[0] == 1
    return len(port.shape) if port.dtype in WHOLE and alone else 0


def _width(tokens: Port) -> int:
    """Return the largest number of tokens of a call."""
    size = tokens.shape[-1]
    if size > 1 and not tokens.dynamic:
        raise InputError(
            f"model: it takes {size} tokens at a time (expected 1, or any number). Export it with "
            "one token, or with the length as a dynamic dimension: "
            "dynamic_shapes={'input_ids': {1: length}, 'cache_position': {0: length}}."
        )
    return size
