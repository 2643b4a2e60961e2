"""Run the conformance suite on plugins that are installed for the time of a test."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from attrs import frozen
from torch import nn

from qreg.testing import PluginConformance, Sample
from qreg.testing.suite import PARAMETERS

Install = Callable[..., Path]
TOY = (Path(__file__).with_name("toy.py")).read_text(encoding="utf-8")
torch.manual_seed(0)
ROW = torch.randn(2, 4)
TANH = Sample(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), ROW)
LINEAR = Sample(nn.Linear(4, 4), ROW)
GOOD = """
from qreg import Annotation, Annotator, Match, SupportedConfig, hookimpl
from qreg.annotators.patterns import operands

# top

def match(node):
    return operands(0)(node)

def annotate(match, config):
    spec = config.output_activation
    return [Annotation(match.output, dict.fromkeys(match.inputs, config.input_activation), spec)]

def annotators():
    yield Annotator("tanh", TARGETS, match, MODES, annotate=annotate)

def factory():
    import dataclasses, torchao.quantization.pt2e as pt2e
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec
    import torch
    spec = QuantizationSpec(
        torch.int8, pt2e.MinMaxObserver, quant_min=LOW, quant_max=127,
        qscheme=torch.per_tensor_affine,
    )
    weight = dataclasses.replace(spec, quant_min=-127, qscheme=torch.per_tensor_symmetric)
    return QuantizationConfig(spec, spec, weight, None, False)

TARGETS, MODES, LOW, MODE = ["aten.tanh.default"], ["static"], -128, "static"

@hookimpl
def qreg_annotators(backend):
    return annotators() if backend == "toy" else ()

@hookimpl
def qreg_supported_configs(backend):
    return [SupportedConfig("mine", "", MODE, factory)] if backend == "toy" else ()
"""
Failures = dict[str, str]


@frozen
class Outcome:
    """The tests of a suite that failed, with what they say, and those that were skipped."""

    failed: Failures
    skipped: Failures


def ran(suite: type[PluginConformance], only: str = "test_") -> Outcome:
    """Runs the tests of a suite whose names start with ``only``, as pytest would."""
    outcome = Outcome({}, {})
    for name, values in runs(suite, only):
        try:
            getattr(suite(), name)(*values)
        except SkipTest as skipped:
            outcome.skipped[name] = str(skipped)
        except AssertionError as error:
            outcome.failed[name] = str(error)
    return outcome


def runs(suite: type[PluginConformance], only: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, function in inspect.getmembers(suite, inspect.isfunction):
        if name.startswith(only):
            (argument,) = PARAMETERS.keys() & inspect.signature(function).parameters or {None}
            each = [(value,) for value in suite.values(argument)] if argument else [()]
            yield from ((name, values) for values in each)


def suite_of(
    source: str, install: Install, given: dict[str, Any] | None = None
) -> type[PluginConformance]:
    """The suite of a plugin that adds to the toy backend, with both installed."""
    install("qreg-toy", TOY)
    install("qreg-mine", source)

    class TestMine(PluginConformance):
        plugin = "mine"
        backend = "toy"
        samples: ClassVar[Any] = {"tanh": TANH, "mine": LINEAR} if given is None else given

    return TestMine
