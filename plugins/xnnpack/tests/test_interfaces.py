"""What a ``.pte`` tells about itself, and generation from its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import qreg
from qreg.cli.main import main
from qreg.errors import InputError
from qreg_xnnpack.interfaces import interfaces

TOKENS, LENGTH = 16, 12


class Counter(nn.Module):
    """Its most probable token is the next one; a cache has the tokens that it has read."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding.from_pretrained(torch.eye(TOKENS))
        self.cache = nn.Buffer(torch.zeros(LENGTH, TOKENS))
        self.head = nn.Linear(TOKENS, TOKENS, bias=False)
        self.head.weight = nn.Parameter(torch.eye(TOKENS).roll(1, 0))

    def forward(self, input_ids: Tensor, cache_position: Tensor) -> Tensor:
        self.cache.index_copy_(0, cache_position, self.embed(input_ids)[0])
        return self.head(self.cache[cache_position])[None]


class Scatter(nn.Module):
    """It writes at positions, but to a tensor that it computes."""

    def forward(self, input_ids: Tensor, cache_position: Tensor) -> Tensor:
        rows = torch.zeros(LENGTH, TOKENS) + input_ids.sum()
        return rows.index_copy(0, cache_position, torch.ones(cache_position.shape[0], TOKENS))


def lowered(model: nn.Module, count: int) -> bytes:
    example = {"input_ids": torch.ones(1, count).long(), "cache_position": torch.arange(count)}
    length = torch.export.Dim("length", max=LENGTH - 1)
    shapes = {"input_ids": {1: length}, "cache_position": {0: length}} if count > 1 else None
    return qreg.lower(model, example, dynamic_shapes=shapes).program


@pytest.fixture(scope="module")
def program() -> bytes:
    return lowered(Counter(), 3)


def test_a_program_tells_its_inputs_outputs_and_caches(program: bytes) -> None:
    interface = interfaces(program)["forward"]
    assert list(map(str, interface.inputs)) == [
        "input 0 (at most 1, 11) of int64",
        "input 1 (at most 11) of int64",
    ]
    assert list(map(str, interface.outputs)) == ["output 0 (at most 1, 11, 16) of float32"]
    assert list(interface.caches.values()) == [LENGTH]


def test_a_write_to_a_computed_tensor_is_not_a_cache() -> None:
    assert interfaces(lowered(Scatter(), 1))["forward"].caches == {}


def test_damaged_programs_are_errors(program: bytes) -> None:
    damaged = program[:200] + b"\xff" * 2000 + program[2200:]
    with pytest.raises(InputError, match="it is damaged"):
        interfaces(damaged)
    with pytest.raises(InputError, match="it is not an ExecuTorch program"):
        interfaces(b"another file")


def test_the_command_continues_tokens(program: bytes, tmp_path: Path) -> None:
    path = tmp_path / "counter.pte"
    path.write_bytes(program)

    def run(*options: str) -> str:
        result = CliRunner().invoke(main, ["generate", str(path), *options])
        return result.stdout.strip() if result.exit_code == 0 else result.output

    assert run("--tokens", "3,4", "--new", "4", "--option", "threads=1") == "5,6,7,8"
    assert run("--tokens", "3", "--eos", "5", "--new", "4", "--json") == "[4, 5]"
    timed = json.loads(run("--tokens", "3", "--new", "2", "--timing", "--json"))
    assert timed["tokens"] == [4, 5]
    assert all(speed > 0 for speed in timed["tokens_per_second"].values())
    assert "--tokens: 'a' is not the id of a token" in run("--tokens", "a")
    assert "token 16 at place 0 is not in the vocabulary" in run("--tokens", "16")
