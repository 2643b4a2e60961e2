"""Generate tokens greedily, in the runtime or with a graph of the same model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen
from torch import Tensor

from qreg.generation.decoder import Decoder, decoders_of, method_for
from qreg.generation.prompt import check_count, prompt_of
from qreg.generation.sources import Calls, Model, source_of
from qreg.pipeline.arguments import names_unknown
from qreg.plugins.registry import DEFAULT_BACKEND, Registry, installed
from qreg.programs.lowering import target


@names_unknown
def generate(
    model: Model,
    prompt: Sequence[int] | Tensor,
    *,
    max_new_tokens: int,
    eos: int | Collection[int] | None = None,
    backend: str = DEFAULT_BACKEND,
    options: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> list[int]:
    """Return the tokens that a language model continues a prompt with, each the most probable one.

    A program is loaded anew, so that its cache is empty. The prompt is read in as few calls as the
    program permits, then each token takes one call. Pass ``result.converted`` or
    ``result.reference`` for the tokens of the converted or the float model.

    Args:
        model: a result of :func:`qreg.quantize`, the results of :func:`qreg.combine`, a graph of a
            result, an exported program, or a lowered program: its bytes, or the path of its file.
            Its inputs are token ids of shape (1, length) and their positions of shape (length,),
            and it keeps keys and values in buffers. Of several methods, each call takes the one
            for the fewest tokens that reads its tokens at once.
        prompt: token ids, at least one.
        max_new_tokens: the number of tokens after which generation ends.
        eos: the token, or the tokens, after which generation ends earlier.
        backend: the name of the backend whose runtime runs a lowered program. A result has its own.
        options: the options of that backend by name; ``qreg ops`` lists them.
        registry: the registry to use instead of that of the installed plugins.

    Returns:
        The new tokens, without those of the prompt. A token of ``eos`` is the last one.

    Raises:
        InputError: the model has no cache or other inputs, a file is not a program of the backend,
            a token is not in the vocabulary, or the prompt and the new tokens do not fit in the
            cache.
    """
    source = source_of(model, lambda: target(registry or installed(), backend, options))
    decoders = decoders_of(source.interfaces)
    ids = prompt_of(prompt, decoders)
    check_count(max_new_tokens, len(ids), decoders)
    ends = frozenset([eos] if isinstance(eos, int) else eos or ())
    with source.opened() as calls:
        return list(_Session(decoders, calls).continued(ids, max_new_tokens, ends))


@frozen
class _Session:
    decoders: Mapping[str, Decoder]
    calls: Calls

    def continued(self, ids: list[int], count: int, ends: frozenset[int]) -> Iterator[int]:
        position, given = 0, ids
        for _ in range(count):
            token = self._next(given, position)
            yield token
            if token in ends:
                return
            position, given = position + len(given), [token]

    def _next(self, ids: list[int], position: int) -> int:
        """Return the most probable token after some, which are read in parts of a fitting size."""
        logits: Any = None
        while ids:
            name = method_for(len(ids), self.decoders)
            decoder = self.decoders[name]
            part, ids = ids[: decoder.width], ids[decoder.width :]
            logits = self.calls[name](decoder.inputs(part, position))[0]
            position += len(part)
        return int(logits.reshape(-1, logits.shape[-1])[-1].argmax())
