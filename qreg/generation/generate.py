"""Generate tokens greedily, in the runtime or with a graph of the same model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from qreg.errors import InputError
from qreg.generation.generated import Generated
from qreg.generation.session import continued
from qreg.generation.sources import Model, source_of
from qreg.pipeline.arguments import public_function
from qreg.plugins.registry import DEFAULT_BACKEND, Registry, installed
from qreg.programs.lowering import target


@public_function
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
    return list(continued(source, prompt, max_new_tokens, eos).tokens)


@public_function
def time_generation(
    model: Model,
    prompt: Sequence[int] | Tensor,
    *,
    max_new_tokens: int,
    eos: int | Collection[int] | None = None,
    backend: str = DEFAULT_BACKEND,
    options: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Generated:
    """Return what :func:`generate` returns, with the tokens per second of the prompt and after it.

    The times are those of one run on this machine. Repeat it, and compare programs in turns.

    Args:
        model: as for :func:`generate`, and so are the other arguments.
        prompt: token ids, at least one.
        max_new_tokens: the number of tokens after which generation ends.
        eos: the token, or the tokens, after which generation ends earlier.
        backend: the name of the backend whose runtime runs a lowered program.
        options: the options of that backend by name, such as ``threads``.
        registry: the registry to use instead of that of the installed plugins.

    Returns:
        The tokens and the times.

    Raises:
        InputError: as :func:`generate`, and for a backend whose runtime is a simulator.
    """
    source = source_of(model, lambda: target(registry or installed(), backend, options))
    if source.simulated:
        raise InputError("model: its runtime is a simulator, so its times are meaningless.")
    return continued(source, prompt, max_new_tokens, eos)
