"""Generate tokens greedily, in the runtime or with a graph of the same model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from attrs import frozen
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule

from qreg.errors import InputError
from qreg.generation.decoder import Decoder
from qreg.generation.prompt import check_count, prompt_of
from qreg.graph.mutation import keeping_state, own_state
from qreg.inputs.specs import called, flat
from qreg.pipeline.arguments import names_unknown
from qreg.pipeline.result import Result
from qreg.verification.runner import run_once

Model: TypeAlias = Result | GraphModule | ExportedProgram
Call: TypeAlias = "Callable[[tuple[Tensor, ...]], list[Tensor]]"


@names_unknown
def generate(
    model: Model,
    prompt: Sequence[int] | Tensor,
    *,
    max_new_tokens: int,
    eos: int | Collection[int] | None = None,
) -> list[int]:
    """Return the tokens that a language model continues a prompt with, each the most probable one.

    The program of a :class:`~qreg.Result` is loaded anew, so that its cache is empty. The prompt is
    read in as few calls as the program permits, then each token takes one call. Pass
    ``result.converted`` or ``result.reference`` for the tokens of the converted or the float model.

    Args:
        model: a result of :func:`qreg.quantize`, a graph of one, or an exported program. Its inputs
            are token ids of shape (1, length) and their positions of shape (length,), and it keeps
            keys and values in buffers.
        prompt: token ids, at least one.
        max_new_tokens: the number of tokens after which generation ends.
        eos: the token, or the tokens, after which generation ends earlier.

    Returns:
        The new tokens, without those of the prompt. A token of ``eos`` is the last one.

    Raises:
        InputError: the model has no cache or other inputs, a token is not in its vocabulary, or
            the prompt and the new tokens do not fit in the cache.
    """
    decoder = Decoder.of(_graph(model))
    ids = prompt_of(prompt, decoder)
    check_count(max_new_tokens, len(ids), decoder)
    ends = frozenset([eos] if isinstance(eos, int) else eos or ())
    with _from_the_start(model) as call:
        return list(_Session(decoder, call).continued(ids, max_new_tokens, ends))


def _graph(model: Model) -> GraphModule:
    if isinstance(model, Result):
        return model.reference
    if isinstance(model, ExportedProgram):
        return model.module(check_guards=False)
    if isinstance(model, GraphModule):
        return model
    raise InputError(
        f"model: it is a {type(model).__name__} (expected a result of qreg.quantize, a graph of "
        "one, or an ExportedProgram). Quantize the model first."
    )


@contextmanager
def _from_the_start(model: Model) -> Iterator[Call]:
    """Yield a function that calls a model whose cache is as it was exported."""
    if isinstance(model, Result):
        runner, lowered = model.target.loader(model.program), model.lowered
        yield lambda sample: run_once(runner, lowered, sample)
        return
    graph = own_state(_graph(model)) if isinstance(model, ExportedProgram) else model
    with torch.no_grad(), keeping_state(graph):
        yield lambda sample: flat(called(graph, sample))


@frozen
class _Session:
    decoder: Decoder
    call: Call

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
        for start in range(0, len(ids), self.decoder.width):
            part = ids[start : start + self.decoder.width]
            logits = self.call(self.decoder.inputs(part, position + start))[0]
        return int(logits.reshape(-1, logits.shape[-1])[-1].argmax())
