"""The algorithms that come with qreg, in the order in which they are tried. Does not import torch.

Each function returns an algorithm with other parameters than the registered one:
``qreg.quantize(..., algorithms=[stock.bias_correction(threshold=2.0)])``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qreg.plugins.hookspecs import hookimpl
from qreg.plugins.types.algorithm import Algorithm

if TYPE_CHECKING:
    from qreg.plugins.types.algorithm import Calibration, Candidate, Change


@hookimpl
def qreg_algorithms() -> Iterable[Algorithm]:
    yield bias_correction()


def bias_correction(threshold: float = 1000.0) -> Algorithm:
    """Return the algorithm that corrects the mean of each output channel by its bias.

    A shift of more than ``threshold`` times the largest bias of a layer is not corrected.
    """
    return Algorithm(
        name="bias_correction",
        stage="prepared",
        summary="adds to each bias what rounding takes from the mean of the output",
        run=partial(_run, "bias_correction", threshold=threshold),
    )


def _run(
    module: str, candidate: Candidate, calibration: Calibration, **parameters: Any
) -> Iterable[Change]:
    """Call ``changes`` of a module, which imports torch, so that listing does not."""
    found = import_module(f"qreg.algorithms.{module}").changes
    return found(candidate, calibration, **parameters)  # type: ignore[no-any-return]
