"""Pins how a program from a file is compared with a reference, and what a misfit is answered."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn
from torch.export import ExportedProgram

import qreg
from qreg import Lowered, Registry
from qreg.errors import (
    CalibrationError,
    CrashError,
    HangError,
    InputError,
    QualityWarning,
    VerificationError,
)
from qreg.verification.isolation import run_isolated


class Net(nn.Module):
    def __init__(self, seed: int = 0, outputs: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.fc = nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def batches() -> list[tuple[Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(8, 4),) for _ in range(3)]


def exported(**options: int) -> ExportedProgram:
    return torch.export.export(Net(**options).eval(), batches()[0])


@pytest.fixture(scope="module")
def program(registry: Registry) -> bytes:
    options: dict[str, Any] = {"calibration": batches(), "registry": registry, "progress": False}
    return qreg.quantize(exported(), backend="toy", **options).program


def verify(program: bytes, registry: Registry, **options: Any) -> Any:
    options = {"reference": exported(), "inputs": batches(), **options}
    return qreg.verify(program, backend="toy", registry=registry, **options)


def test_a_program_is_compared_with_the_model_it_was_made_from(
    program: bytes, registry: Registry
) -> None:
    found = verify(program, registry)
    (output,) = found.to_float
    assert (found.runtime, found.samples, found.to_converted) == ("torch", 3, ())
    assert 30 < output.sqnr < 60
    assert output.agreement > 0.9


def test_another_model_of_the_same_shape_is_far_away(program: bytes, registry: Registry) -> None:
    with pytest.warns(QualityWarning, match="Is the reference the model that"):
        found = verify(program, registry, reference=exported(seed=5))
    assert (found.verdict, found.poor) == ("poor", [0])


def test_another_model_of_another_shape_is_told_apart(program: bytes, registry: Registry) -> None:
    wanted = r"shapes \[\(8, 3\)\], expected \[\(8, 5\)\].*Is the reference the model"
    with pytest.raises(VerificationError, match=wanted):
        verify(program, registry, reference=exported(outputs=5))


def test_a_program_is_read_from_its_file(
    program: bytes, registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "net.toy"
    path.write_bytes(program)
    assert verify(path, registry) == verify(str(path), registry) == verify(program, registry)


def test_a_floor_makes_a_distance_an_error(program: bytes, registry: Registry) -> None:
    assert verify(program, registry, floor=20).good
    with pytest.raises(VerificationError, match=r"less than 0.*Is the reference the model that"):
        verify(program, registry, reference=exported(seed=5), floor=0)
    with pytest.raises(VerificationError, match="less than 100"):
        verify(program, registry, floor=100)


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("floor", "20", "floor: '20' is not a number"),
        ("reference", Net(), r"reference: it is a Net \(expected an ExportedProgram\)"),
        ("program", 5, r"program: it is an int \(expected bytes, or the path of a file\)"),
        ("program", "model.pte", r"model.pte is not a name for a program .* ends with .toy"),
    ],
)
def test_an_argument_of_another_type_is_named(
    program: bytes, registry: Registry, argument: str, value: object, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        verify(**{"program": program, "registry": registry, argument: value})


def test_the_least_ratio_decides_the_verdict(program: bytes, registry: Registry) -> None:
    with pytest.warns(QualityWarning, match=r"dB from the reference.*expected at least 60 dB"):
        found = verify(program, registry, min_sqnr=60)
    assert found.verdict == "poor"
    with pytest.raises(InputError, match="min_sqnr: nan is not a number"):
        verify(program, registry, min_sqnr=float("nan"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("inf"), "inf is infinite"),
        (-1, "-1 is negative"),
        ("10", "'10' is not a number"),
        (None, "None is not a number"),
    ],
)
def test_what_no_ratio_can_be_is_rejected_ahead_of_all_work(
    value: Any, words: str, program: bytes, registry: Registry
) -> None:
    with pytest.raises(InputError, match=f"min_sqnr: {words}"):
        verify(program, registry, min_sqnr=value)
    with pytest.raises(InputError, match=f"min_sqnr: {words}"):
        qreg.quantize(None, min_sqnr=value)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"min_sqnr: {words}"):
        qreg.compare(None, backends=[], calibration=[], min_sqnr=value)  # type: ignore[arg-type]


def test_a_model_with_other_weights_is_asked_about(program: bytes, registry: Registry) -> None:
    near = exported()
    weight = near.state_dict[next(iter(near.state_dict))]
    weight.data *= 2  # half of the signal is an error
    with pytest.warns(QualityWarning, match="Is the reference the model that") as told:
        verify(program, registry, reference=near)
    assert told[0].message.verification.to_float[0].sqnr > 0


def test_inputs_that_do_not_fit_the_reference_are_named(program: bytes, registry: Registry) -> None:
    odd = [*batches(), (torch.randn(8, 5),)]
    with pytest.raises(CalibrationError, match=r"^input batch 3: input 'x': has shape \(8, 5\)"):
        verify(program, registry, inputs=odd)


def test_without_inputs_there_is_nothing_to_compare(program: bytes, registry: Registry) -> None:
    with pytest.raises(InputError, match=r"inputs: no batch \(expected at least one\)"):
        verify(program, registry, inputs=[])


def test_a_backend_that_only_compiles_verifies_nothing(toy: ModuleType, program: bytes) -> None:
    compiler = toy.Extension(backends=[evolve(toy.BACKEND, name="toy", load=None)])
    with pytest.raises(InputError, match="only compiles"):
        verify(program, Registry({"toy": compiler}, entry_points=False))


def doubled(program: bytes) -> Any:
    return lambda inputs: tuple(2 * each for each in inputs)


def crashing(program: bytes) -> Any:
    os.abort()


def hanging(program: bytes) -> Any:
    time.sleep(3600)


def refusing(program: bytes) -> Any:
    raise RuntimeError("0x23")


SAMPLES: Sequence[Any] = [(torch.ones(2),)]


@pytest.fixture
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module's functions are found by the process that runs them."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for function in (doubled, crashing, hanging, refusing):
        monkeypatch.setattr(function, "__module__", "test_verify")


@pytest.mark.usefixtures("_importable")
def test_a_process_of_its_own_gives_what_this_one_would() -> None:
    import test_verify

    ((output,),) = run_isolated(test_verify.doubled, Lowered(b"", 0), SAMPLES)
    assert output.tolist() == [2.0, 2.0]


@pytest.mark.usefixtures("_importable")
def test_a_runtime_that_crashes_is_an_error_and_not_the_end() -> None:
    import test_verify

    with pytest.raises(CrashError, match="the runtime crashed on the program"):
        run_isolated(test_verify.crashing, Lowered(b"", 0), SAMPLES)


@pytest.mark.usefixtures("_importable")
def test_a_runtime_that_hangs_is_ended() -> None:
    import test_verify

    with pytest.raises(HangError, match=r"has not run the program after 0\.5 s, and was"):
        run_isolated(test_verify.hanging, Lowered(b"", 0), SAMPLES, timeout=0.5)


@pytest.mark.usefixtures("_importable")
def test_a_runtime_that_refuses_is_heard() -> None:
    import test_verify

    with pytest.raises(VerificationError, match="does not run: 0x23"):
        run_isolated(test_verify.refusing, Lowered(b"", 0), SAMPLES)


def test_an_input_that_the_reference_cannot_read_either_is_named(registry: Registry) -> None:
    known, unknown = torch.tensor([[0, 4]]), torch.tensor([[0, 5]])
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)).eval()
    reference = torch.export.export(model, (known,))
    made = qreg.quantize(
        reference, backend="toy", calibration=[known], registry=registry, progress=False
    )
    with pytest.raises(InputError, match=r"^input batch 1: aten.embedding.default"):
        verify(made.program, registry, reference=reference, inputs=[known, unknown])
