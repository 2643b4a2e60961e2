"""Pins the whole way, on a backend that runs in torch: what is checked when, and what comes out."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn
from torch.export import Dim

import qreg
from qreg import Registry, Result, errors, get_quantizer


class Net(nn.Module):
    """A linear with a ReLU, and an add; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 4)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.fc(x).relu() + x


def batches(count: int = 4, *shape: int) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(shape or (8, 4)) for _ in range(count)]


X = torch.zeros(8, 4)


def quantize(registry: Registry, model: Any = None, example: Any = X, **options: Any) -> Result:
    options = {"backend": "toy", "calibration": batches(), "registry": registry, **options}
    return qreg.quantize(Net() if model is None else model, example, **options)


@pytest.fixture(scope="module")
def result(registry: Registry) -> Result:
    return quantize(registry)


# What comes out


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
    plugin = toy.Extension(
        [evolve(toy.BACKEND, name="compiler", load=None)],
        toy.CONFIGS,
        toy.ANNOTATORS,
        toy.lower,
        extends="compiler",
    )
    registry = Registry({"compiler": plugin}, entry_points=False)
    assert quantize(registry, backend="compiler").verification is None


# Calibration


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((X, X), "batch 2: has 2 inputs, the model takes 1: x"),
        (torch.zeros(8, 5), "batch 2: input 'x': has shape"),
        (X.double(), "batch 2: input 'x': has dtype torch.float64"),
    ],
    ids=["arity", "shape", "dtype"],
)
def test_a_batch_that_does_not_fit_is_named(bad: Any, message: str, registry: Registry) -> None:
    with pytest.raises(errors.CalibrationError, match=message):
        quantize(registry, calibration=[*batches(2), bad])


def test_batches_may_come_from_a_generator(registry: Registry, result: Result) -> None:
    def generated() -> Iterator[tuple[Tensor]]:
        for batch in batches():
            yield (batch,)

    found = quantize(registry, calibration=generated())
    assert found.verification == result.verification


def test_no_more_batches_than_the_cap_are_asked_for(registry: Registry) -> None:
    given = iter([*batches(2), torch.full((8, 4), torch.nan)])
    found = quantize(registry, calibration=given, max_batches=2)
    assert found.verification is not None
    assert found.verification.samples == 2
    assert next(given).isnan().all()


def test_a_cap_below_one_fails_before_the_export(registry: Registry) -> None:
    model = Net()
    with pytest.raises(errors.InputError, match="max_batches is 0"):
        quantize(registry, model, max_batches=0)
    assert model.calls == 0


def test_a_static_config_without_calibration_fails_before_the_export(registry: Registry) -> None:
    model = Net()
    with pytest.raises(errors.CalibrationError, match="pass calibration"):
        quantize(registry, model, calibration=None)
    assert model.calls == 0


def test_an_unknown_backend_or_config_fails_before_the_export(registry: Registry) -> None:
    model = Net()
    for unknown in ({"backend": "tpu"}, {"config": "int3"}):
        with pytest.raises(errors.UnknownNameError):
            quantize(registry, model, **unknown)
    assert model.calls == 0


def test_empty_calibration_data_is_an_error(registry: Registry) -> None:
    with pytest.raises(errors.CalibrationError, match="no batch"):
        quantize(registry, calibration=[])


def test_a_batch_without_a_value_is_an_error(registry: Registry) -> None:
    dynamic = ({0: Dim("batch", min=0, max=64)},)
    with pytest.raises(errors.CalibrationError, match="the observer of x saw no value"):
        quantize(registry, calibration=[torch.zeros(0, 4)], dynamic_shapes=dynamic)


def test_a_dynamic_config_needs_no_calibration(registry: Registry) -> None:
    found = quantize(registry, example=batches(1)[0], config="dynamic", calibration=None)
    assert found.decided == {"annotated": 2, "float": 1}
    assert found.verification is not None
    assert found.verification.to_float[0].sqnr > 30


def test_a_histogram_config_is_calibrated_too(registry: Registry) -> None:
    found = quantize(registry, config="histogram").verification
    assert found is not None
    assert 30 < found.to_float[0].sqnr < float("inf")


def test_a_qat_config_is_refused_with_the_way_out(registry: Registry) -> None:
    model = Net()
    with pytest.raises(errors.ConfigError, match=r"prepare_qat_pt2e.*lower"):
        quantize(registry, model, config="qat")
    assert model.calls == 0


# Models


def test_a_model_in_train_mode_stays_in_it(registry: Registry) -> None:
    model = Net().train()
    model.fc.eval()
    quantize(registry, model)
    assert (model.training, model.fc.training) == (True, False)


def test_the_model_keeps_its_weights(registry: Registry) -> None:
    model = Net()
    before = model.fc.weight.clone()
    quantize(registry, model)
    assert torch.equal(model.fc.weight, before)


def test_operators_under_no_grad_are_quantized(registry: Registry) -> None:
    class Frozen(Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(x)

    assert quantize(registry, Frozen()).decided == {"annotated": 3}


def test_a_model_that_does_not_export_is_an_export_error(registry: Registry) -> None:
    class DataDependent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(errors.ExportError, match="DataDependent") as caught:
        quantize(registry, DataDependent())
    assert caught.value.__cause__ is not None


def test_a_model_needs_example_inputs(registry: Registry) -> None:
    with pytest.raises(errors.InputError, match="example_inputs is missing"):
        quantize(registry, example=None)


def test_a_model_with_several_inputs_and_outputs_is_compared_by_output(registry: Registry) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return x + y, y + y

    pairs = list(zip(batches(3), batches(3), strict=True))
    found = quantize(registry, Two(), pairs[0], calibration=pairs).verification
    assert found is not None
    assert len(found.to_float) == len(found.to_converted) == 2


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


# Programs


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    dynamic = ({0: Dim("batch", min=2, max=64)},)
    return torch.export.export(Net().eval(), (X,), dynamic_shapes=dynamic)


def test_an_exported_program_needs_no_example(
    program: torch.export.ExportedProgram, registry: Registry
) -> None:
    assert quantize(registry, program, None).decided == {"annotated": 3}


def test_a_program_saved_without_an_example_asks_for_one(registry: Registry) -> None:
    program = torch.export.export(Net().eval(), (X,))
    program._example_inputs = None
    with pytest.raises(errors.InputError, match="without example inputs: pass example_inputs"):
        quantize(registry, program, None)
    assert quantize(registry, program, X).decided == {"annotated": 3}


def test_a_program_of_keyword_inputs_is_refused_by_their_names(registry: Registry) -> None:
    program = torch.export.export(Net().eval(), (), {"x": X})
    with pytest.raises(errors.InputError, match=r"keyword inputs \(x\)"):
        quantize(registry, program, None)


def test_an_example_that_does_not_fit_the_program_is_refused(
    program: torch.export.ExportedProgram, registry: Registry
) -> None:
    with pytest.raises(errors.InputError, match="input 'x': has shape"):
        quantize(registry, program, torch.zeros(8, 5))


def test_dynamic_dimensions_go_through_to_the_program(
    program: torch.export.ExportedProgram, registry: Registry, toy: ModuleType
) -> None:
    mixed = [*batches(1, 3, 4), *batches(1, 17, 4)]
    found = quantize(registry, program, None, calibration=mixed)
    run = toy.load(found.program)
    assert [run([torch.zeros(size, 4)])[0].shape[0] for size in (2, 9, 64)] == [2, 9, 64]
    loaded = torch.export.load(io.BytesIO(found.program))
    assert list(loaded.range_constraints.values()) == list(program.range_constraints.values())


def test_dynamic_dimensions_are_given_with_a_model(registry: Registry, toy: ModuleType) -> None:
    found = quantize(registry, dynamic_shapes=({0: Dim("batch", min=2, max=64)},))
    assert toy.load(found.program)([torch.zeros(33, 4)])[0].shape == (33, 4)


# Lowering


def test_a_program_that_does_not_run_is_a_verification_error(toy: ModuleType) -> None:
    def load(program: bytes) -> Any:
        raise OSError("no such runtime")

    plugin = toy.Extension(
        [evolve(toy.BACKEND, name="flaky", load=load)],
        toy.CONFIGS,
        toy.ANNOTATORS,
        toy.lower,
        extends="flaky",
    )
    with pytest.raises(errors.VerificationError, match="no such runtime"):
        quantize(Registry({"flaky": plugin}, entry_points=False), backend="flaky")


def test_a_float_model_is_lowered_as_it_is(registry: Registry, toy: ModuleType) -> None:
    lowered = qreg.lower(Net(), X, backend="toy", registry=registry)
    (x,) = batches(1)
    assert torch.equal(toy.load(lowered.program)([x])[0], Net().eval()(x))


def test_a_missing_runtime_fails_before_the_export(toy: ModuleType) -> None:
    backend = evolve(toy.BACKEND, name="far", requires=[qreg.Requirement("no_such_runtime", "far")])
    plugin = toy.Extension([backend], toy.CONFIGS, toy.ANNOTATORS, extends="far")
    registry, model = Registry({"far": plugin}, entry_points=False), Net()
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
