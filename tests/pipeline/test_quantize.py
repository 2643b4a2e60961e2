"""Pins the full pipeline, on a backend that runs in torch: what comes out, and what is an error."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from quantizing import Net, X, batches, quantize
from torch import Tensor, nn

import qreg
from qreg import Registry, Result, errors, get_quantizer


def test_the_program_runs_and_is_close_to_the_float_model(result: Result, toy: ModuleType) -> None:
    (x,) = batches(1)
    (got,) = toy.load(result.program)([x])
    wanted = Net().eval()(x).detach()
    noise = (got - wanted).square().sum() / wanted.square().sum()
    assert 0 < noise < 1e-3  # 30 dB: int8, and not float


def test_the_program_computes_what_the_converted_model_does(
    result: Result, toy: ModuleType
) -> None:
    (x,) = batches(1)
    assert torch.equal(toy.load(result.program)([x])[0], result.converted(x))


def test_the_verification_is_that_of_the_calibration_batches(
    result: Result, toy: ModuleType
) -> None:
    run, model = toy.load(result.program), Net().eval()
    outputs = torch.cat([run([x])[0].double() for x in batches()])
    wanted = torch.cat([model(x).detach().double() for x in batches()])
    sqnr = 10 * torch.log10(wanted.square().sum() / (wanted - outputs).square().sum())
    found = result.verification
    assert found is not None
    assert (found.runtime, found.samples) == ("torch", 4)
    assert found.to_float[0].sqnr == pytest.approx(float(sqnr), rel=1e-6)
    assert found.to_converted[0].sqnr == float("inf")


def test_every_operator_is_counted(result: Result) -> None:
    assert result.decided == {"annotated": 3}
    assert result.counts == result.report.counts == {"int8": 3}
    assert [decision.node for decision in result.decisions] == ["linear", "relu", "add"]
    assert result.backend == "toy"


def test_every_stage_is_timed(result: Result) -> None:
    assert list(result.seconds) == [
        "export",
        "prepare",
        "calibrate",
        "convert",
        "run the models",
        "lower",
        "verify",
    ]


def test_a_result_is_saved_in_full(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "model.toy"
    path.write_bytes(b"older")
    result.save(str(path))
    assert path.read_bytes() == result.program
    assert list(tmp_path.iterdir()) == [path]


def test_a_result_is_not_saved_where_nothing_can_be(result: Result, tmp_path: Path) -> None:
    with pytest.raises(errors.InputError, match="cannot be written"):
        result.save(tmp_path / "missing" / "model.toy")


def test_the_program_is_not_run_if_nobody_wants_it(registry: Registry) -> None:
    without = quantize(registry, verify=False)
    assert without.verification is None
    assert "verify" not in without.seconds


def test_a_backend_that_only_compiles_is_not_verified(toy: ModuleType) -> None:
    registry = toy.variant("compiler", load=None)
    assert quantize(registry, backend="compiler").verification is None


# Float


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid().tanh().sigmoid()


def test_a_model_in_which_nothing_is_quantized_is_an_error_that_counts_why(
    registry: Registry,
) -> None:
    with pytest.raises(errors.NothingQuantizedError, match=r"2 x aten\.sigmoid\.default") as caught:
        quantize(registry, Unknown())
    assert sorted(caught.value.reasons.values()) == [1, 2]
    assert "allow_float=True" in str(caught.value)


def test_float_can_be_allowed(registry: Registry) -> None:
    found = quantize(registry, Unknown(), allow_float=True)
    assert found.counts == {"float": 3}
    assert found.verification is not None
    assert found.verification.to_float[0].sqnr == float("inf")


def test_float_can_be_allowed_for_a_quantizer_too(registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry)
    found = quantize(registry, Unknown(), quantizer=quantizer, allow_float=True)
    assert found.counts == {"float": 3}


def test_a_quantizer_brings_its_own_scopes(registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry).set_module_name("fc", None)
    found = quantize(registry, quantizer=quantizer)
    assert {d.node: d.status for d in found.decisions}["linear"] == "float"


def test_a_quantizer_can_be_used_again(registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry)
    first, second = (quantize(registry, quantizer=quantizer) for _ in range(2))
    assert first.decisions == second.decisions


# Lowering


def test_a_program_that_does_not_run_is_a_verification_error(toy: ModuleType) -> None:
    def load(program: bytes) -> Any:
        raise OSError("no such runtime")

    with pytest.raises(errors.VerificationError, match="no such runtime"):
        quantize(toy.variant("flaky", load=load), backend="flaky")


def test_a_float_model_is_lowered_as_it_is(registry: Registry, toy: ModuleType) -> None:
    lowered = qreg.lower(Net(), X, backend="toy", registry=registry)
    (x,) = batches(1)
    assert torch.equal(toy.load(lowered.program)([x])[0], Net().eval()(x))


def test_a_missing_runtime_fails_before_the_export(toy: ModuleType) -> None:
    registry = toy.variant("far", requires=[qreg.Requirement("no_such_runtime", "far")])
    model = Net()
    with pytest.raises(errors.BackendUnavailableError, match="pip install 'far'"):
        quantize(registry, model, backend="far")
    with pytest.raises(errors.BackendUnavailableError):
        qreg.lower(model, X, backend="far", registry=registry)
    assert model.calls == 0


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("max_batches", "3", "max_batches: '3' is not an integer"),
        ("quantizer", "toy", "quantizer: 'toy' is not a quantizer of qreg"),
        ("min_sqnr", True, "min_sqnr: True is not a number"),
    ],
)
def test_an_argument_of_another_type_is_named_before_the_export(
    registry: Registry, argument: str, value: object, words: str
) -> None:
    model = Net()
    with pytest.raises(errors.QregError, match=words):
        quantize(registry, model, **{argument: value})
    assert model.calls == 0


def test_a_quantizer_for_another_backend_is_an_error(registry: Registry) -> None:
    quantizer = qreg.get_quantizer("toy", registry=registry)
    with pytest.raises(errors.ConfigError, match=r"it is for backend 'toy' \(expected 'other'\)"):
        quantize(registry, backend="other", quantizer=quantizer)
