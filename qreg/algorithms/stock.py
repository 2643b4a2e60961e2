"""The algorithms that come with qreg, in the order in which they are tried. Does not import torch.

Each function returns an algorithm with other parameters than the registered one:
``qreg.quantize(..., algorithms=[stock.bias_correction(threshold=2.0)])``. A recipe names them too:
``algorithms = [{name = "bias_correction", threshold = 2.0}]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qreg.plugins.hookspecs import hookimpl
from qreg.plugins.types.algorithm import Algorithm, Statistic
from qreg.plugins.types.parameters import check_within

if TYPE_CHECKING:
    from qreg.plugins.types.algorithm import Calibration, Candidate, Change


def _channel_ranges(*values: Any) -> Any:
    """Call the update of the statistic in a module that imports torch."""
    return import_module("qreg.algorithms.channels").channel_ranges(*values)


def _moments(*values: Any) -> Any:
    return import_module("qreg.algorithms.hessian").update(*values)


def _moments_size(node: Any) -> int:
    return import_module("qreg.algorithms.hessian").size(node)  # type: ignore[no-any-return]


CHANNEL_RANGES = Statistic("channel_ranges", _channel_ranges)
LEAST = 1e-9  # of a share of the diagonal that makes a matrix invertible
MOMENTS = Statistic("moments", _moments, size=_moments_size)


@hookimpl
def qreg_algorithms() -> Iterable[Algorithm]:
    yield equalize()
    yield smooth_quant()
    yield ranges()
    yield gptq()
    yield adaround()
    yield bias_correction()
    yield mixed_precision()


def equalize() -> Algorithm:
    """Return the algorithm that gives the channels between two layers alike ranges."""
    return Algorithm(
        name="equalize",
        stage="float",
        summary="gives the channels between two layers alike ranges",
        run=partial(_run, "equalize", {}),
        applies=partial(_applies, "equalize"),
        statistics=(CHANNEL_RANGES,),
        make=equalize,
    )


def smooth_quant(
    alphas: Sequence[float] = (0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), threshold: float = 3.0
) -> Algorithm:
    """Return the algorithm that moves outlier channels of activations into weights.

    ``alphas`` are the exponents that are tried for each activation. A channel whose range is more
    than ``threshold`` times the median of the channels is an outlier of the residual stream.
    """
    check_within("smooth_quant", "alphas", alphas, 0, 1)
    check_within("smooth_quant", "threshold", threshold, 0)
    parameters = {"alphas": tuple(alphas), "threshold": threshold}
    return Algorithm(
        name="smooth_quant",
        stage="float",
        summary="moves outlier channels of activations into weights, and out of sums",
        run=partial(_run, "smooth_quant", parameters),
        applies=partial(_applies, "smooth_quant"),
        statistics=(CHANNEL_RANGES,),
        parameters=parameters,
        make=smooth_quant,
    )


def ranges(gains: Sequence[float] = (0.05, 0.3, 0.6)) -> Algorithm:
    """Return the algorithm that chooses the range of each activation among several.

    A range is replaced if another one takes a share of the error away at the outputs of the
    operators that read the activation; ``gains`` are the shares that are tried. Weights get the
    ranges of least squared error if the outputs are better with them. ``"auto"`` does not include
    it: it helps some models, and the rounding algorithms help less after it.
    """
    check_within("ranges", "gains", gains, 0, 1)
    parameters = {"gains": tuple(gains)}
    return Algorithm(
        name="ranges",
        stage="prepared",
        summary="chooses ranges of activations by the error at the operators that read them",
        run=partial(_run, "ranges", parameters),
        automatic=False,
        parameters=parameters,
        make=ranges,
    )


def gptq(damping: float = 0.01, block: int = 128) -> Algorithm:
    """Return the algorithm that rounds weights so that their errors cancel in the outputs.

    ``damping`` is the share of the mean of the Hessian's diagonal that is added to it, and
    ``block`` the number of columns that are rounded ahead of a change of all others.
    """
    check_within("gptq", "damping", damping, LEAST, 1)
    check_within("gptq", "block", block, 1)
    parameters = {"damping": damping, "block": block}
    return Algorithm(
        name="gptq",
        stage="prepared",
        summary="rounds weights one after another, each to make up for those before (GPTQ)",
        run=partial(_run, "gptq", parameters),
        statistics=(MOMENTS,),
        conflicts=("adaround",),
        runs_model=False,
        parameters=parameters,
        make=gptq,
    )


def adaround(steps: int = 1000, damping: float = 0.01) -> Algorithm:
    """Return the algorithm that learns which weights to round up, in ``steps`` steps per layer.

    It takes minutes, so that ``"auto"`` does not include it.
    """
    check_within("adaround", "steps", steps, 1)
    check_within("adaround", "damping", damping, 0, 1)
    parameters = {"steps": steps, "damping": damping}
    return Algorithm(
        name="adaround",
        stage="prepared",
        summary="learns which weights to round up and which down (AdaRound)",
        run=partial(_run, "adaround", parameters),
        statistics=(MOMENTS,),
        conflicts=("gptq",),
        runs_model=False,
        automatic=False,
        parameters=parameters,
        make=adaround,
    )


def bias_correction(threshold: float = 1000.0, shrink: bool = True) -> Algorithm:
    """Return the algorithm that corrects the mean of each output channel by its bias.

    A shift of more than ``threshold`` times the largest bias of a layer is not corrected.
    ``shrink`` corrects only the share of the shift that the calibration batches agree on.
    """
    check_within("bias_correction", "threshold", threshold, 0)
    parameters = {"threshold": threshold, "shrink": shrink}
    return Algorithm(
        name="bias_correction",
        stage="prepared",
        summary="adds to each bias what rounding takes from the mean of the output",
        run=partial(_run, "bias_correction", parameters),
        parameters=parameters,
        make=bias_correction,
    )


def mixed_precision(budget: float = 0.02, share: float = 0.02, enough: float = 20.0) -> Algorithm:
    """Return the algorithm that keeps cheap operators in float whose rounded values cost most.

    ``budget`` is the share of the multiply-accumulates that may move to float, and ``share`` that
    of a value in the noise of all from which it is worth it. A model whose outputs have an SQNR of
    ``enough`` dB on the calibration data is left alone.
    """
    check_within("mixed_precision", "budget", budget, 0)
    check_within("mixed_precision", "share", share, 0)
    check_within("mixed_precision", "enough", enough, -math.inf)
    parameters = {"budget": budget, "share": share, "enough": enough}
    return Algorithm(
        name="mixed_precision",
        stage="precision",
        summary="keeps cheap operators in float whose rounded values cost the outputs most",
        run=partial(_run, "mixed_precision", parameters),
        applies=partial(_applies, "mixed_precision"),
        parameters=parameters,
        make=mixed_precision,
    )


def _run(
    module: str, parameters: Mapping[str, Any], candidate: Candidate, calibration: Calibration
) -> Iterable[Change]:
    """Call ``changes`` of a module, which imports torch, so that listing does not."""
    found = import_module(f"qreg.algorithms.{module}").changes
    return found(candidate, calibration, **parameters)  # type: ignore[no-any-return]


def _applies(module: str, candidate: Candidate) -> str | None:
    found = import_module(f"qreg.algorithms.{module}").applies
    return found(candidate)  # type: ignore[no-any-return]
