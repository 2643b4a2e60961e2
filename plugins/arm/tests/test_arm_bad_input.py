"""Models that do not fit into a TOSA program, and damaged programs, are rejected with a remedy."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import qreg
from qreg.errors import (
    BackendUnavailableError,
    ConfigError,
    InputError,
    QregError,
    VerificationError,
)
from qreg_arm.plugin import BACKENDS
from qreg_arm.runtime import load

ROW = (2, 8)


def lower(module: nn.Module, *inputs: Any, **options: Any) -> qreg.Lowered:
    return qreg.lower(module, inputs, backend="arm", **options)


@pytest.fixture(scope="module")
def program() -> bytes:
    return lower(nn.Sequential(nn.Linear(8, 4), nn.Tanh()), torch.randn(ROW)).program


def test_an_operator_that_tosa_lacks_is_named_with_its_module(call: Any) -> None:
    module = nn.Sequential(nn.Linear(8, 8), call(lambda _, x: torch.sort(x).values))
    with pytest.raises(qreg.errors.LoweringError, match=r"aten\.sort\.default in module '1'"):
        lower(module, torch.randn(ROW))


REFUSED = {
    "input 'inputs_1' is not used": lambda _, x, y: torch.tanh(x),
    "computes nothing": lambda _, x, y: (x, y),
    "is an input or a constant": lambda _, x, y: (torch.tanh(y) + x, x),
    "two outputs are the same tensor": lambda _, x, y: (lambda z: (z, z))(x + y),
}


@pytest.mark.parametrize("message", REFUSED)
def test_inputs_and_outputs_that_a_flatbuffer_cannot_have(message: str, call: Any) -> None:
    with pytest.raises(InputError, match=message):
        lower(call(REFUSED[message]), torch.randn(ROW), torch.randn(ROW))


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(ROW))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(x)
        return torch.tanh(self.total)


def test_a_model_with_state_is_refused() -> None:
    with pytest.raises(InputError, match="keeps no state"):
        lower(Counting(), torch.randn(ROW))


def test_dynamic_shapes_are_refused() -> None:
    with pytest.raises(QregError, match="dynamic"):
        lower(nn.Linear(8, 4), torch.randn(ROW), dynamic_shapes=({0: Dim("n", min=2, max=9)},))


@pytest.mark.parametrize("given", [b"", b"nothing at all", b"\x00" * 400])
def test_a_file_that_is_no_program(given: bytes) -> None:
    with pytest.raises(InputError, match="not a TOSA program"):
        load(given)


def test_a_file_that_is_cut_short_ends_nothing(program: bytes) -> None:
    for kept in range(8, len(program), 97):
        with pytest.raises((InputError, VerificationError), match=r"damaged|ended with"):
            load(program[:kept])([torch.randn(ROW)])


def test_inputs_of_another_shape_or_type(program: bytes) -> None:
    run = load(program)
    for given in ([torch.randn(3, 8)], [torch.randn(ROW).double()], []):
        with pytest.raises(InputError, match=r"expected float32 \(2, 8\), got"):
            run(given)


CHANGES = {
    "dynamic": {"is_dynamic": True},
    "int16 has no zero point": {"dtype": torch.int16, "quant_min": -32768, "quant_max": 32767},
    r"in \[-64, 63\] \(expected \[-128, 127\] for Arm": {"quant_min": -64, "quant_max": 63},
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_config_that_arm_has_not_is_refused_when_it_is_set(what: str) -> None:
    config = qreg.Registry().config("arm", "int8_static_per_channel").factory()
    spec = replace(config.input_activation, **CHANGES[what])
    with pytest.raises(ConfigError, match=what):
        qreg.get_quantizer("arm", replace(config, input_activation=spec))


def test_weights_alone_are_refused() -> None:
    config = qreg.Registry().config("arm", "int8_static_per_channel").factory()
    with pytest.raises(ConfigError, match="input activations are not quantized"):
        qreg.get_quantizer("arm", replace(config, input_activation=None, output_activation=None))


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda each: each.name)
def test_packages_of_other_versions_are_named(backend: Any, monkeypatch: Any) -> None:
    version = importlib.metadata.version
    monkeypatch.setattr(
        "importlib.metadata.version",
        lambda name: "0.0.1" if name == "tosa-tools" else version(name),
    )
    with pytest.raises(BackendUnavailableError, match=r"pip install .*tosa-tools==2026\.5\.0"):
        qreg.Registry().check_installed(backend.name)
