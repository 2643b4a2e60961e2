"""Refuse integers as inputs and outputs ahead of a calibration, which may take long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.errors import CalibrationError
from qreg.graph.prepared import independent
from qreg.inputs.quantized_io import FLOAT, IO, boundary_of
from qreg.pipeline.calibrate import converted_for, feed

if TYPE_CHECKING:
    from qreg.pipeline.plan import Model
    from qreg.pipeline.source import Batch
    from qreg.plugins.types.backend import Backend


def check_io(io: IO, model: Model, example: Batch, backend: Backend) -> None:
    """Convert a copy of the model, calibrated on the example inputs, and look for its qparams.

    Raises as :func:`~qreg.inputs.quantized_io.boundary_of`. An example that does not reach all
    observers decides nothing.
    """
    if io == FLOAT:
        return
    trial = independent(model.graph)
    try:
        feed(trial, [example], lambda: None)
        converted = converted_for(backend, trial)
    except CalibrationError:
        return
    boundary_of(io, model.reference, converted, model.quantizer.decisions)
