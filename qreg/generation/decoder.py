"""Read from the graph of a language model what generation needs to know about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen

from qreg.errors import InputError
from qreg.graph.compat import largest_size
from qreg.graph.mutation import Mutations
from qreg.graph.nodes import called
from qreg.inputs.signature import Signature

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Graph, GraphModule, Node

    from qreg.inputs.specs import InputSpec

TOKENS, POSITIONS = 2, 1  # the dimensions of the two inputs
WRAP = (
    "Wrap the model in transformers.integrations.executorch."
    "TorchExportableModuleForDecoderOnlyLM, and quantize that."
)


@frozen
class Decoder:
    """The inputs, the cache and the vocabulary of a language model that keeps keys and values.

    ``tokens`` and ``positions`` are the places of the two inputs: token ids of shape (1, length)
    and their positions in the cache of shape (length,). ``width`` is the largest number of tokens
    of one call. ``cache`` is the number of positions in the cache. ``vocabulary`` is the number of
    logits of a position.
    """

    tokens: int
    positions: int
    width: int
    cache: int
    vocabulary: int

    @classmethod
    def of(cls, model: GraphModule) -> Decoder:
        """Read the graph of an exported model.

        Raises ``InputError`` for a model without a cache, with other inputs, or of one length.
        """
        cache = min(_cache_lengths(model.graph), default=None)
        if cache is None:
            raise InputError(
                "model: it has no cache of keys and values (expected buffers that it writes to at "
                f"the positions of the tokens). {WRAP}"
            )
        specs = Signature.of_graph(model).specs
        ranks = [_rank(spec) for spec in specs]
        if sorted(ranks) != [POSITIONS, TOKENS]:
            raise InputError(
                f"model: its inputs are {', '.join(map(_described, specs))} (expected the ids of "
                f"tokens of shape (1, length) and their positions of shape (length,)). {WRAP}"
            )
        tokens = ranks.index(TOKENS)
        width = min(_width(model.graph, tokens), cache)
        return cls(tokens, ranks.index(POSITIONS), width, cache, _vocabulary(model.graph))

    def inputs(self, ids: list[int], start: int) -> tuple[Tensor, ...]:
        """Return the inputs of a call with tokens that begin at a position."""
        positions = torch.arange(start, start + len(ids))
        given = {self.tokens: torch.tensor([ids]), self.positions: positions}
        return tuple(given[place] for place in sorted(given))


def _cache_lengths(graph: Graph) -> Iterator[int]:
    """Yield the number of positions of each buffer that is written at computed positions."""
    mutations = Mutations.of(graph)
    for node in graph.nodes:
        dim = _written_dim(node)
        if dim is not None and mutations.is_state(node):
            yield int(node.meta["val"].shape[dim])


def _written_dim(node: Node) -> int | None:
    """Return the dimension along which a call writes at positions that are a tensor."""
    name, args = called(node), node.args
    if name == "aten.index_copy.default":
        return int(args[1])  # type: ignore[arg-type]
    if name == "aten.index_put.default":
        indices: Any = args[1]
        return next((dim for dim, index in enumerate(indices) if index is not None), None)
    return None


def _rank(spec: InputSpec) -> int:
    """Return the rank of an input of integers for one sequence; 0 for another input."""
    whole = not spec.dtype.is_floating_point and spec.dtype is not torch.bool
    alone = len(spec.shape) != TOKENS or spec.shape[0] == 1
    return len(spec.shape) if whole and alone else 0


def _described(spec: InputSpec) -> str:
    sizes = ", ".join("length" if size is None else str(size) for size in spec.shape)
    return f"{spec.name} ({sizes}) of {str(spec.dtype).removeprefix('torch.')}"


def _width(graph: Graph, place: int) -> int:
    value = graph.find_nodes(op="placeholder")[place].meta["val"]
    size = value.shape[1]
    if isinstance(size, int) and size > 1:
        raise InputError(
            f"model: it takes {size} tokens at a time (expected 1, or any number). Export it with "
            "one token, or with the length as a dynamic dimension: "
            "dynamic_shapes={'input_ids': {1: length}, 'cache_position': {0: length}}."
        )
    return largest_size(size)


def _vocabulary(graph: Graph) -> int:
    """Return the size of the last dimension of the logits, the first output."""
    node: Any = graph.output_node().args[0][0]  # type: ignore[index]
    while not isinstance(node.meta.get("val"), torch.Tensor):  # those that convert inserted
        node = node.all_input_nodes[0]
    return int(node.meta["val"].shape[-1])
