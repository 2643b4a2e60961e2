"""Pins the graphs of the kit: odd ones, and those that are annotated by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conformance import ROW
from torch import nn

from qreg import Registry, get_quantizer
from qreg.testing import annotate, graph_of
from qreg.testing.odd import odd_calls, odd_models


def test_odd_calls_differ_in_what_a_pattern_stumbles_over() -> None:
    said = [what for what, _ in odd_calls("aten.add.Tensor")]
    assert len(said) == len(set(said)) > 20
    for oddity in ("no dimensions", "no elements", "int64", "bool", "constants", "everywhere"):
        assert any(oddity in what for what in said)


def test_every_odd_model_computes() -> None:
    for what, program in odd_models().items():
        assert program.example_inputs is not None
        program.module(check_guards=False)(*program.example_inputs[0])
        assert what.startswith("a model with")


def test_decisions_are_asserted_by_the_operators_name(registry: Registry) -> None:
    found = annotate(
        nn.Sequential(nn.Linear(4, 4), nn.Tanh()), ROW, backend="toy", registry=registry
    )
    found.assert_quantized("aten.linear.default", by="linear")
    found.assert_quantized("linear")
    found.assert_float("aten.tanh", because="toy has no annotator for aten.tanh.default")


def test_a_wrong_assertion_shows_what_is_so(registry: Registry) -> None:
    found = annotate(
        nn.Sequential(nn.Linear(4, 4), nn.Tanh()), ROW, backend="toy", registry=registry
    )
    with pytest.raises(AssertionError, match="tanh stays in float: toy has no annotator"):
        found.assert_quantized("tanh")
    with pytest.raises(AssertionError, match="quantized by 'linear', not by 'other'"):
        found.assert_quantized("linear", by="other")
    with pytest.raises(AssertionError, match="linear is quantized by 'linear'"):
        found.assert_float("linear")
    with pytest.raises(AssertionError, match="stays in float because: toy has no"):
        found.assert_float("tanh", because="something else")
    with pytest.raises(AssertionError, match="no conv2d, only\n  linear"):
        found.of("conv2d")


def test_a_quantizer_with_scopes_is_taken_as_it_is(registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry).set_module_name("0", None)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    first, second = annotate(model, ROW, quantizer=quantizer).of("linear")
    assert (first.status, second.status) == ("float", "annotated")


def test_the_module_of_a_graph_stays_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    graph_of(module, ROW, train=True)
    assert not module.training
    assert module[1].num_batches_tracked == 0


def test_the_kit_does_not_import_pytest() -> None:
    code = "import sys, qreg.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
