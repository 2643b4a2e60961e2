"""The tokens that a language model generated, and how long it took."""

from __future__ import annotations

from attrs import frozen


@frozen
class Generated:
    """The tokens that follow a prompt, and the times of one run in seconds.

    ``prompt`` is the number of tokens of the prompt. ``prefill_seconds`` is the time to read it,
    which ends with the first token; it includes what a runtime does only in its first call.
    ``decode_seconds`` is the time of the tokens after the first.
    """

    tokens: tuple[int, ...]
    prompt: int
    prefill_seconds: float
    decode_seconds: float

    @property
    def prefill(self) -> float:
        """The tokens of the prompt that were read in a second."""
        return self.prompt / self.prefill_seconds

    @property
    def decode(self) -> float | None:
        """The tokens after the first that were generated in a second; None if there are none."""
        after = len(self.tokens) - 1
        return after / self.decode_seconds if after else None

    def __str__(self) -> str:
        decode = "" if self.decode is None else f", {self.decode:.1f} generated"
        return f"tokens per second: {self.prefill:.1f} of the prompt read{decode}"
