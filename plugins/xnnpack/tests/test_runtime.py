"""A program that cannot run says why, and never ends the process."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.errors import InputError
from qreg_xnnpack.runtime import check_header, load


@pytest.fixture(scope="module")
def program() -> bytes:
    torch.manual_seed(0)
    return qreg.lower(nn.Linear(8, 4).eval(), (torch.randn(1, 8),)).program


def test_a_whole_program_runs(program: bytes) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(8, 4), torch.randn(1, 8)
    (output,) = load(program)([x])
    torch.testing.assert_close(output, model(x).detach())


@pytest.mark.parametrize("length", [0, 1, 7, 11, 40, 500])
def test_a_program_that_was_cut_short_is_refused(length: int, program: bytes) -> None:
    with pytest.raises(InputError, match=r"cut short|not an ExecuTorch program"):
        load(program[:length])


def test_the_message_has_both_lengths(program: bytes) -> None:
    with pytest.raises(InputError, match=rf"1,000 of {len(program):,} bytes"):
        check_header(program[:1000])


@pytest.mark.parametrize(
    "foreign", [b"PK\x03\x04" + bytes(100), b"GGUF" * 50, random.randbytes(5000)]
)
def test_foreign_bytes_are_refused_before_the_runtime_sees_them(foreign: bytes) -> None:
    with pytest.raises(InputError, match="not an ExecuTorch program"):
        load(foreign)


@pytest.mark.parametrize(
    ("inputs", "given"),
    [
        ([torch.randn(1, 9)], r"float32 \(1, 9\)"),
        ([torch.randn(8)], r"float32 \(8,\)"),
        ([torch.zeros(1, 8, dtype=torch.int64)], r"int64 \(1, 8\)"),
        ([torch.randn(1, 8)] * 2, r"float32 \(1, 8\), float32 \(1, 8\)"),
    ],
)
def test_inputs_that_do_not_fit_are_set_against_those_that_would(
    inputs: list[Tensor], given: str, program: bytes
) -> None:
    with pytest.raises(InputError, match=rf"\(expected float32 \(1, 8\), got {given}\)"):
        load(program)(inputs)


def test_a_program_bigger_than_memory_is_refused_with_its_size() -> None:
    class Big(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.repeat(2**18, 2**18) + 1).sum(0)

    program = qreg.lower(Big(), torch.randn(1, 4)).program
    with pytest.raises(InputError, match=r"needs 2,199,\d{3},\d{3},\d{3} bytes"):
        load(program)


DAMAGE = """
import random, sys, torch
from qreg_xnnpack.runtime import load
whole = open(sys.argv[1], "rb").read()
for seed in map(int, sys.argv[2:]):
    data = bytearray(whole)
    random.seed(seed)
    for _ in range(4):
        data[random.randrange(44, len(data))] = random.randrange(256)
    try:
        load(bytes(data))([torch.randn(1, 8)])
    except (RuntimeError, ValueError) as error:
        print("refused:", seed, type(error).__name__, flush=True)
    else:
        print("ran:", seed, flush=True)
"""


def test_a_program_with_flipped_bytes_is_an_error_or_runs(program: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pte"
    path.write_bytes(program)
    seeds = [str(each) for each in range(3)]
    command = [sys.executable, "-c", DAMAGE, str(path), *seeds]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, (answer.stdout, answer.stderr)
    assert re.findall(r"^(?:refused|ran): (\d)", answer.stdout, re.MULTILINE) == seeds
