"""What became of an algorithm that was tried on a model. Does not import torch."""

from __future__ import annotations

from attrs import frozen

from qreg.plugins.types.algorithm import Stage


@frozen
class Outcome:
    """Whether the changes of an algorithm were kept, and why.

    ``before`` and ``after`` are the SQNR of the model's outputs to float in dB, the mean over the
    outputs, on calibration batches that were held back; None if the algorithm was not tried.
    ``uncertain`` is whether the mean improved, but not significantly over the batches, or at the
    expense of an output. ``operators`` are the operators that it changed. ``seconds`` is the time
    of its run, with the calibration and the evaluation that it needed.
    """

    algorithm: str
    stage: Stage
    distribution: str
    version: str
    kept: bool
    reason: str
    before: float | None = None
    after: float | None = None
    uncertain: bool = False
    operators: tuple[str, ...] = ()
    seconds: float = 0.0
