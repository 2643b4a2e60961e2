"""The whole way: from a float module to a program that has been loaded and run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.export import ExportedProgram

from qreg.errors import CalibrationError, ConfigError
from qreg.pipeline.arguments import names_unknown
from qreg.pipeline.lower import chosen
from qreg.pipeline.result import Result
from qreg.pipeline.run import Data, Run
from qreg.plugins.registry import DEFAULT, DEFAULT_BACKEND, Registry
from qreg.programs.export import name_of
from qreg.programs.lowering import target
from qreg.quantizer.registry_quantizer import Config, RegistryQuantizer
from qreg.utils.progress import Stages
from qreg.verification.verdict import check_min_sqnr, warn_if_poor
from qreg.verification.verify import MIN_SQNR


@names_unknown
def quantize(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    *,
    backend: str = DEFAULT_BACKEND,
    calibration: Iterable[Any] | None = None,
    max_batches: int | None = None,
    config: Config = DEFAULT,
    quantizer: RegistryQuantizer | None = None,
    dynamic_shapes: Any = None,
    allow_float: bool = False,
    verify: bool = True,
    min_sqnr: float = MIN_SQNR,
    options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    registry: Registry | None = None,
) -> Result:
    """Quantizes a float model for a backend, lowers it, and runs the program.

    ``example_inputs`` is a tuple of tensors, as for ``torch.export.export``; a lone tensor is the
    only input, and a program that was exported with example inputs needs none. ``calibration`` is
    any iterable of batches of the same form, or of dicts of inputs by name: a list, a generator, a
    ``DataLoader``; a config with static activations needs one. At most ``max_batches`` are taken
    from it, and only a few of them kept, to verify the program with. ``config`` is a
    name, a ``QuantizationConfig``, or None; instead of ``backend`` and ``config``, ``quantizer``
    takes one that was made by ``get_quantizer`` and given its scopes. ``dynamic_shapes`` is as
    for ``torch.export.export``. ``allow_float`` lets a model pass in which nothing is quantized.
    ``min_sqnr`` is the least SQNR in dB that each output, and each slice of it, should have against
    the float model: below it the program is returned with a
    :class:`~qreg.errors.QualityWarning` that names the operators at which the SQNR drops.
    ``options`` are those of the backend, by name: ``qreg ops`` lists them.
    ``progress`` None shows a progress bar on a terminal, and elsewhere a line for each stage.

    Raises a :class:`~qreg.errors.QregError` that names the remedy: before any work for an unknown
    backend, config or option, a missing package, or missing calibration data; at its stage for a
    model that does not export, a batch that does not fit, a model in which nothing would be
    quantized, and a program that does not lower, load or run.
    """
    check_min_sqnr(min_sqnr)
    quantizer = chosen(quantizer, backend, config, registry).for_one_run(allow_float=allow_float)
    goal = target(quantizer.registry, quantizer.backend, options)
    _check_modes(quantizer, calibration)
    data = Data(calibration, max_batches)
    with Stages(progress) as stages:
        run = Run(quantizer, goal, goal.load if verify else None, stages)
        source = run.export(model, example_inputs, dynamic_shapes)
        graphs = run.quantize(source, data)
        lowered, verification = run.lower(source, graphs, min_sqnr)
    if verification is not None:
        warn_if_poor(verification)
    return run.result(name_of(model), source, graphs, lowered, verification)


def _check_modes(quantizer: RegistryQuantizer, calibration: Iterable[Any] | None) -> None:
    if "qat" in quantizer.modes:
        raise ConfigError(
            "a QAT config needs training, which quantize() does not do: give the quantizer of "
            "get_quantizer() to prepare_qat_pt2e, train, convert, and pass the result to lower()"
        )
    if "static" in quantizer.modes and calibration is None:
        raise CalibrationError(
            "a config with static activations needs calibration data: pass calibration=[(x,), "
            "...], a tuple of input tensors for each batch, or choose a dynamic config"
        )
