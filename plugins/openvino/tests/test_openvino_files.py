"""A program on disk is OpenVINO's own two files, and any OpenVINO computes the same from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import openvino
import pytest
import torch
from cases_openvino import IMAGE, conv
from torch import nn

import qreg
from qreg.errors import InputError
from qreg_openvino.container import join, split
from qreg_openvino.plugin import OPENVINO
from qreg_openvino.runtime import compiled_model, load


@pytest.fixture
def result(quantized: Any) -> qreg.Result:
    wide = nn.Sequential(nn.Flatten(), nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 256))
    return quantized(nn.Sequential(conv(), nn.ReLU(), wide), IMAGE)


def test_the_saved_files_give_the_same_numbers_in_plain_openvino(
    result: qreg.Result, tmp_path: Path
) -> None:
    path = tmp_path / "m.xml"
    result.save(path)
    core = openvino.Core()
    model = core.read_model(path)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = torch.randn(IMAGE)
    (expected,) = load(result.program)([image])
    assert numpy.array_equal(compiled([image.numpy()])[0], expected.numpy())
    assert {each.name for each in tmp_path.iterdir()} >= {"m.xml", "m.bin"}


def test_weights_are_stored_in_8_bits(result: qreg.Result) -> None:
    parameters = 256 * 1024 + 1024 * 256
    assert parameters < len(split(result.program)[".bin"]) < 1.1 * parameters


def test_files_make_the_program_that_they_were_made_of(result: qreg.Result) -> None:
    assert join(split(result.program)) == result.program


@pytest.mark.parametrize("damage", ["cut", "changed", "other", "empty"])
def test_a_damaged_program_is_refused(damage: str, result: qreg.Result) -> None:
    program = result.program
    middle = len(program) // 2
    changed = bytes([program[middle] ^ 1])
    given = {
        "cut": program[:middle],
        "changed": program[:middle] + changed + program[middle + 1 :],
        "other": b"no program at all",
        "empty": b"",
    }[damage]
    with pytest.raises(InputError, match=r"not a program of backend|cut short|damaged"):
        load(given)


@pytest.mark.parametrize("graph", [b"<xml/>", b"", b"<?xml version='1.0'?><net name='x' "])
def test_files_that_are_no_ir_are_refused(graph: bytes) -> None:
    with pytest.raises(InputError, match=r"not OpenVINO IR|OpenVINO rejects the model"):
        load(join({".xml": graph, ".bin": b""}))


def test_the_precision_and_the_threads_are_the_runtime_s(result: qreg.Result) -> None:
    chosen = compiled_model(result.program, threads=1)
    assert chosen.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert chosen.get_property("INFERENCE_NUM_THREADS") == 1
    image = torch.randn(IMAGE)
    (exact,) = load(result.program, threads=1)([image])
    (halved,) = load(result.program, precision="bf16", threads=1)([image])
    assert torch.allclose(exact, halved, atol=0.05)


def test_a_precision_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(InputError, match="precision is 'f64'"):
        qreg.quantize(
            nn.Linear(4, 4), (torch.randn(1, 4),), backend="openvino", options={"precision": "f64"}
        )
    assert {option.at for option in OPENVINO.options} == {"load"}
