"""Continue a prompt greedily with a model that keeps keys and values, and take the time."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen
from torch import Tensor

from qreg.generation.decoder import Decoder, decoders_of, method_for
from qreg.generation.generated import Generated
from qreg.generation.prompt import check_count, prompt_of
from qreg.generation.sources import Calls, Source


def continued(
    source: Source,
    prompt: Sequence[int] | Tensor,
    count: int,
    eos: int | Collection[int] | None,
) -> Generated:
    """Return the tokens that follow a prompt, at most ``count``, and their times.

    Raises as :func:`qreg.generate`.
    """
    decoders = decoders_of(source.interfaces)
    ids = prompt_of(prompt, decoders)
    check_count(count, len(ids), decoders)
    ends = frozenset([eos] if isinstance(eos, int) else eos or ())
    with source.opened() as calls:
        stamps, tokens = [time.perf_counter()], list[int]()
        for token in _Session(decoders, calls).continued(ids, count, ends):
            tokens.append(token)
            stamps.append(time.perf_counter())
    return Generated(tuple(tokens), len(ids), stamps[1] - stamps[0], stamps[-1] - stamps[1])


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
