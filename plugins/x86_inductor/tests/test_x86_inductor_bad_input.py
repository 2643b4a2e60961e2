"""What cannot be done is said, with the way out."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.errors import BackendUnavailableError, ConfigError, InputError, LoweringError
from qreg_x86_inductor import compile, signature
from qreg_x86_inductor.runtime import load

ROWS = (4, 32)


@pytest.fixture(scope="module")
def program() -> bytes:
    return qreg.lower(nn.Linear(32, 8).eval(), (torch.randn(ROWS),), backend="x86_inductor").program


def zipped(*names: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return written.getvalue()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not an AOTInductor package, or is cut short"),
        (b"no zip at all", "not an AOTInductor package, or is cut short"),
        (zipped("archive/archive_format"), "without compiled code"),
        (zipped("archive/models/model.json"), "is an exported program"),
    ],
)
def test_another_file_is_not_loaded(content: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        load(content)


def test_a_file_that_is_cut_short_is_not_loaded(program: bytes) -> None:
    with pytest.raises(InputError, match="cut short"):
        load(program[: len(program) // 2])


def test_an_exported_program_of_the_same_suffix_is_not_loaded(tmp_path: Any) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(nn.Linear(32, 8), (torch.randn(ROWS),)), path)
    with pytest.raises(InputError, match=r"is an exported program.*qreg\.quantize"):
        load(path.read_bytes())


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ([torch.randn(5, 32)], r"expected float32 \(4, 32\), got float32 \(5, 32\)"),
        (
            [torch.randn(ROWS).double()],
            r"type \(expected float32 .*, got float64",
        ),
        ([], r"0 inputs \(expected float32 \(4, 32\), got nothing\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    program: bytes, inputs: list[Tensor], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        load(program)(inputs)


def test_threads_are_a_number_of_them(program: bytes) -> None:
    with pytest.raises(InputError, match="option threads: -1"):
        load(program, threads=-1)


def test_a_package_of_somebody_elses_is_refused() -> None:
    with pytest.raises(InputError, match="not lowered by qreg"):
        signature.read({"AOTI_MACHINE": "x86_64"})


def test_a_package_for_another_cpu_is_refused() -> None:
    metadata = {signature.KEY: "{}", signature.CPU: json.dumps(["avx2", "avx4096"])}
    with pytest.raises(InputError, match=r"on a CPU with avx4096.*Lower the model on this machine"):
        signature.read(metadata)


def test_another_machine_is_told_before_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(LoweringError) as raised:
        qreg.lower(nn.Linear(32, 8).eval(), (torch.randn(ROWS),), backend="x86_inductor")
    assert "the architecture is aarch64" in f"{raised.value} {raised.value.__cause__}"


def test_without_a_compiler_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BackendUnavailableError, match="apt-get install g"):
        qreg.lower(nn.Linear(32, 8).eval(), (torch.randn(ROWS),), backend="x86_inductor")
    with pytest.raises(BackendUnavailableError, match="apt-get install g"):
        compile(nn.Linear(32, 8).eval())


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 32)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.layer(x) + self.calls


def no_batches() -> Iterator[Any]:
    raise AssertionError("calibration has begun")
    yield


def test_a_state_is_rejected_before_calibration_since_the_package_would_forget_it() -> None:
    model, inputs = Counting().eval(), (torch.randn(ROWS),)
    message = "changes its buffer 'calls', and an AOTInductor package of torch 2.13 keeps no state"
    with pytest.raises(LoweringError, match=message):
        qreg.lower(model, inputs, backend="x86_inductor")
    with pytest.raises(LoweringError, match=message):
        qreg.quantize(model, inputs, backend="x86_inductor", calibration=no_batches())


@pytest.mark.parametrize("value", ["int8_symmetric", "per_tensor", "int32_bias"])
def test_a_config_without_a_kernel_is_refused_when_it_is_chosen(value: str) -> None:
    import dataclasses

    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        get_default_x86_inductor_quantization_config,
    )

    config = get_default_x86_inductor_quantization_config()
    if value == "int8_symmetric":
        entering = dataclasses.replace(
            config.input_activation, dtype=torch.int8, quant_min=-128, quant_max=127
        )
        config, problem = dataclasses.replace(config, input_activation=entering), r"torch\.uint8"
    elif value == "int32_bias":
        bias = dataclasses.replace(config.weight, dtype=torch.int32, quant_min=None, quant_max=None)
        config, problem = dataclasses.replace(config, bias=bias), "its bias is quantized"
    else:
        weight = dataclasses.replace(config.weight, qscheme=torch.per_tensor_symmetric)
        config, problem = dataclasses.replace(config, weight=weight), "per_channel_symmetric"
    with pytest.raises(ConfigError, match=problem):
        qreg.get_quantizer("x86_inductor", config)


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        given: Tensor = torch.ops.qreg_x86_test.only_eager(self.layer(x))
        return given + 1


def _only_eager(x: Tensor) -> Tensor:
    return x * 2


def _of_no_use(x: Tensor) -> Tensor:
    from torch._inductor import config

    if config.freezing:  # that is, while Inductor compiles
        raise NotImplementedError("only_eager has no compiled form")
    return torch.empty_like(x)


def test_an_operator_that_does_not_compile_is_named_with_its_place(
    quantized: Callable[..., Any],
) -> None:
    torch.library.define("qreg_x86_test::only_eager", "(Tensor x) -> Tensor")
    torch.library.impl("qreg_x86_test::only_eager", "CPU", _only_eager)
    torch.library.register_fake("qreg_x86_test::only_eager", _of_no_use)
    with pytest.raises(LoweringError) as raised:
        quantized(Unknown(), ROWS)
    assert "only_eager" in f"{raised.value.suspects}"
