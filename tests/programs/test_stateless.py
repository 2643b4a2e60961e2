"""A backend whose programs keep no state rejects a model that has one before any calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn

import qreg
from qreg import Registry
from qreg.errors import InputError, LoweringError, StateError
from qreg.programs.stateless import written_by

REASON = "a toy keeps nothing"
MESSAGE = f"the program changes its buffer 'seen', and {REASON}: make it an input and an output"


class Counting(nn.Module):
    def __init__(self, write: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.fc, self.write = nn.Linear(4, 4), write
        self.seen = nn.Buffer(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.write(self.seen)
        return self.fc(x) + self.seen


WRITING: dict[str, Callable[[Tensor], Any]] = {
    "in place": lambda seen: seen.add_(1),
    "through a view": lambda seen: seen.view(2, 2)[:1].mul_(2),
    "a slice": lambda seen: seen[:2].copy_(torch.ones(2)),
    "a copy": lambda seen: seen.copy_(seen + 1),
}


@pytest.fixture(scope="module")
def stateless(toy: ModuleType) -> Registry:
    plugin = ModuleType("stateless")
    vars(plugin).update(vars(toy))

    @qreg.hookimpl
    def qreg_backends() -> list[qreg.Backend]:
        return [evolve(each, stateless=REASON) for each in toy.qreg_backends()]

    plugin.qreg_backends = qreg_backends  # type: ignore[attr-defined]
    return Registry({"toy": plugin}, entry_points=False)


def no_batches() -> Iterator[Any]:
    raise AssertionError("calibration has begun")
    yield


@pytest.mark.parametrize("write", WRITING)
def test_state_is_rejected_by_every_way_before_calibration(write: str, stateless: Registry) -> None:
    model, inputs = Counting(WRITING[write]).eval(), (torch.randn(2, 4),)
    with pytest.raises(StateError) as quantized:
        qreg.quantize(
            model,
            inputs,
            backend="toy",
            calibration=no_batches(),
            registry=stateless,
            progress=False,
        )
    with pytest.raises(StateError) as prepared:
        qreg.prepare(model, qreg.get_quantizer("toy", registry=stateless), inputs)
    with pytest.raises(StateError) as explained:
        qreg.explain(model, inputs, backend="toy", registry=stateless, progress=False)
    with pytest.raises(StateError) as lowered:
        qreg.lower(model, inputs, backend="toy", registry=stateless)
    errors = quantized, prepared, explained, lowered
    assert {str(each.value) for each in errors} == {MESSAGE}
    assert isinstance(lowered.value, LoweringError)
    assert isinstance(lowered.value, InputError)


def test_a_functional_program_is_read_too(stateless: Registry) -> None:
    program = torch.export.export(Counting(WRITING["in place"]).eval(), (torch.randn(2, 4),))
    assert written_by(program) == written_by(program.run_decompositions({})) == ["seen"]


@pytest.mark.parametrize("write", [lambda seen: seen.clone().add_(1), lambda seen: seen + 1])
def test_a_buffer_that_is_only_read_is_no_state(
    write: Callable[[Tensor], Any], stateless: Registry
) -> None:
    batches = [(torch.randn(2, 4),)]
    result = qreg.quantize(
        Counting(write).eval(),
        batches[0],
        backend="toy",
        calibration=batches,
        registry=stateless,
        progress=False,
    )
    assert result.verification is not None
    assert result.verification.to_float[0].sqnr > 25
