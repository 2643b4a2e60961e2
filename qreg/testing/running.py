"""Run a sample through the full pipeline, and return what happened to each operator."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from unittest import SkipTest

import torch
from attrs import frozen
from torchao.quantization.pt2e import move_exported_model_to_eval
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

import qreg
from qreg.analysis.audit import Audit, audit
from qreg.errors import BackendUnavailableError
from qreg.pipeline.calibrate import convert
from qreg.plugins.registry import Registry
from qreg.plugins.types.backend import SupportedConfig
from qreg.plugins.types.decision import Decision
from qreg.quantizer.registry_quantizer import RegistryQuantizer
from qreg.testing.graphs import graph_of
from qreg.testing.subject import Sample


@frozen
class Outcome:
    """The decisions on a sample, and the audit of its program, if the program can be read back."""

    decisions: Sequence[Decision]
    audit: Audit | None


def check_runs_here(registry: Registry, backend: str) -> None:
    """Skip the test if packages of the backend are missing."""
    try:
        registry.check_installed(backend)
    except BackendUnavailableError as error:
        raise SkipTest(str(error)) from error


def outcome(registry: Registry, backend: str, sample: Sample, config: SupportedConfig) -> Outcome:
    """Quantize and lower a sample, and run the program if the backend can."""
    if config.mode == "qat":
        return _trained(registry, backend, sample, config)
    result = qreg.quantize(
        copy.deepcopy(sample.module),
        sample.inputs,
        backend=backend,
        calibration=[sample.inputs],
        config=config.name,
        dynamic_shapes=sample.dynamic_shapes,
        progress=False,
        registry=registry,
    )
    return Outcome(result.decisions, result.audit)


def _trained(registry: Registry, backend: str, sample: Sample, config: SupportedConfig) -> Outcome:
    quantizer = RegistryQuantizer(backend, config.name, registry=registry)
    shapes = sample.dynamic_shapes
    graph_module = graph_of(sample.module, sample.inputs, train=True, dynamic_shapes=shapes)
    prepared = prepare_qat_pt2e(graph_module, quantizer)
    with torch.no_grad():
        prepared(*sample.inputs)
    fold = registry.backend(backend).value.fold_quantize
    converted = convert(prepared, fold_quantize=fold)
    move_exported_model_to_eval(converted)
    lowered = qreg.lower(
        converted, sample.inputs, backend=backend, dynamic_shapes=shapes, registry=registry
    )
    return Outcome(quantizer.decisions, audit(quantizer.decisions, lowered, converted))
