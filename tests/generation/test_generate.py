"""Generation is tested on a model whose continuations are known: the numbers of Fibonacci."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import variant

import qreg
from qreg.errors import InputError
from qreg.generation.interface import interface_of

TOKENS, LENGTH = 16, 12
CONTINUED = [2, 3, 5, 8, 13, 5, 2]  # of 1 1, modulo 16


class Fibonacci(nn.Module):
    """Its most probable token is the sum of the last two, modulo the size of the vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding.from_pretrained(torch.eye(TOKENS))
        self.cache = nn.Buffer(torch.zeros(LENGTH, TOKENS))
        self.shift = nn.Linear(TOKENS, TOKENS**2, bias=False)
        rolled = torch.stack([torch.eye(TOKENS).roll(n, 1) for n in range(TOKENS)])
        self.shift.weight = nn.Parameter(rolled.flatten(1).t())

    def forward(self, input_ids: Tensor, cache_position: Tensor) -> Tensor:
        last = self.embed(input_ids)[0]
        self.cache.index_copy_(0, cache_position, last)
        before = self.cache.index_select(0, (cache_position - 1).clamp(min=0))
        sums = last[:, None] @ self.shift(before).view(-1, TOKENS, TOKENS)
        return sums.transpose(0, 1)


def inputs(length: int) -> dict[str, Tensor]:
    return {"input_ids": torch.ones(1, length).long(), "cache_position": torch.arange(length)}


def dynamic(most: int) -> dict[str, Any]:
    length = torch.export.Dim("length", max=most)
    return {"input_ids": {1: length}, "cache_position": {0: length}}


@pytest.fixture(scope="module")
def result(registry: qreg.Registry) -> qreg.Result:
    """A program that reads at most three tokens in a call."""
    return quantized(registry, inputs(3), dynamic_shapes=dynamic(3))


def quantized(registry: qreg.Registry, example: Any, **options: Any) -> qreg.Result:
    fixed = {"backend": "toy", "registry": registry, "progress": False}
    return qreg.quantize(Fibonacci(), example, calibration=[example], **fixed, **options)


def test_the_program_and_the_graphs_of_a_result_continue_a_prompt(result: qreg.Result) -> None:
    assert result.counts["int8"]
    for model in (result, result.converted, result.reference):
        assert qreg.generate(model, [1, 1], max_new_tokens=7) == CONTINUED


def test_an_exported_program_is_left_as_it_was() -> None:
    program = torch.export.export(Fibonacci(), (), inputs(3), dynamic_shapes=dynamic(8))
    assert qreg.generate(program, [1, 1], max_new_tokens=7) == CONTINUED
    assert not any(value.any() for name, value in program.named_buffers() if name == "cache")


def test_a_program_for_one_token_reads_the_prompt_in_steps(registry: qreg.Registry) -> None:
    alone = quantized(registry, inputs(1))
    assert qreg.generate(alone, [1, 1], max_new_tokens=7) == CONTINUED


def test_a_prompt_that_is_longer_than_a_call_is_read_in_parts(result: qreg.Result) -> None:
    assert qreg.generate(result, [1, 1, *CONTINUED[:5]], max_new_tokens=2) == CONTINUED[5:]


@pytest.mark.parametrize("prompt", [torch.tensor([1, 1]), torch.tensor([[1, 1]]), (1, 1)])
def test_each_generation_starts_anew(result: qreg.Result, prompt: Any) -> None:
    assert qreg.generate(result, prompt, max_new_tokens=7) == CONTINUED


@pytest.mark.parametrize("eos", [8, (13, 8), {8}])
def test_generation_ends_after_a_token_of_eos(result: qreg.Result, eos: Any) -> None:
    assert qreg.generate(result, [1, 1], max_new_tokens=7, eos=eos) == [2, 3, 5, 8]


def test_the_cache_can_be_filled_to_its_end(result: qreg.Result) -> None:
    assert len(qreg.generate(result, [1, 1], max_new_tokens=11)) == 11
    with pytest.raises(InputError, match=r"at most 11\)"):
        qreg.generate(result, [1, 1], max_new_tokens=12)


@pytest.mark.parametrize(
    ("prompt", "count", "problem"),
    [
        ([], 1, "prompt: it is empty"),
        ([1] * 13, 1, r"prompt: it has 13 tokens \(expected at most 12, the length of the cache"),
        ([1, 16], 1, r"prompt: token 16 at place 1 is not in the vocabulary \(expected 0 to 15\)"),
        ([-1], 1, "prompt: token -1 at place 0"),
        ("text", 1, "prompt: it is a str"),
        ([0.5], 1, "prompt: it is a list of other values"),
        (torch.ones(2, 3).long(), 1, r"prompt: it has shape \(2, 3\) and dtype int64"),
        (torch.ones(3), 1, "and dtype float32"),
        ([1], 0, "max_new_tokens: it is 0"),
        ([1], 13, r"max_new_tokens: 13 and a prompt of 1 do not fit in the cache"),
    ],
)
def test_what_does_not_fit_the_model_is_an_error(
    result: qreg.Result, prompt: Any, count: int, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        qreg.generate(result, prompt, max_new_tokens=count)


class WithoutCache(Fibonacci):
    def forward(self, input_ids: Tensor, cache_position: Tensor) -> Tensor:
        return self.embed(input_ids) + cache_position[:, None]


class OfNumbers(Fibonacci):
    def forward(self, input_ids: Tensor, cache_position: Tensor) -> Tensor:
        return super().forward(input_ids.long(), cache_position)


@pytest.mark.parametrize(
    ("model", "example", "problem"),
    [
        (WithoutCache(), inputs(1), "model: it has no cache of keys and values"),
        (Fibonacci(), inputs(5), "model: it takes 5 tokens at a time"),
        (
            OfNumbers(),
            {**inputs(1), "input_ids": torch.ones(1, 1)},
            r"its inputs are input_ids \(1, 1\) of float32, cache_position \(1\) of int64",
        ),
    ],
)
def test_a_model_that_does_not_generate_is_an_error(
    model: nn.Module, example: dict[str, Tensor], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        qreg.generate(torch.export.export(model, (), example), [1], max_new_tokens=1)


def test_the_tokens_per_second_are_those_of_the_run(
    result: qreg.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is at 0 before the prompt of 2 tokens, then at 4 and at 5, 6, 7 and so on."""
    ticks = iter([0.0, *map(float, range(4, 20))])
    monkeypatch.setattr("qreg.generation.session.time.perf_counter", lambda: next(ticks))
    found = qreg.time_generation(result, [1, 1], max_new_tokens=7)
    assert list(found.tokens) == CONTINUED
    assert (found.prefill, found.decode) == (2 / 4, 6 / 6)
    assert str(found) == "tokens per second: 0.5 of the prompt read, 1.0 generated"


def test_one_token_has_no_time_after_the_first(result: qreg.Result) -> None:
    found = qreg.time_generation(result, [1, 1], max_new_tokens=1)
    assert found.decode is None
    assert found.prefill > 0


def test_a_simulator_has_no_tokens_per_second(result: qreg.Result, told: dict[str, Any]) -> None:
    simulated = variant("told", interfaces=interfaces, simulated=True)
    with pytest.raises(InputError, match="its runtime is a simulator"):
        qreg.time_generation(
            result.program, [1], max_new_tokens=1, **{**told, "registry": simulated}
        )


def interfaces(program: bytes) -> dict[str, qreg.Interface]:
    if not program.startswith(b"PK"):
        raise InputError("it is not an archive (expected PK at byte 0)")
    return {"forward": interface_of(torch.export.load(io.BytesIO(program)).module())}


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """A backend whose programs describe themselves."""
    return {"backend": "told", "registry": variant("told", interfaces=interfaces)}


def test_a_program_is_read_from_its_bytes_or_its_file(
    result: qreg.Result, told: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "fibonacci.toy"
    path.write_bytes(result.program)
    for program in (result.program, path, str(path)):
        assert qreg.generate(program, [1, 1, 2], max_new_tokens=6, **told) == CONTINUED[1:]


def test_a_file_of_another_kind_is_an_error(told: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "other.toy"
    path.write_bytes(b"other")
    for program, problem in (
        (path, r"other.toy: it is not an archive \(expected PK at byte 0\)"),
        (b"other", "program: it is not an archive"),
        (tmp_path / "other.pte", r"is not a name for a program of backend 'told'"),
        (tmp_path / "missing.toy", "missing.toy is not a file"),
    ):
        with pytest.raises(InputError, match=problem):
            qreg.generate(program, [1], max_new_tokens=1, **told)


def test_a_program_that_does_not_describe_itself_is_an_error(
    result: qreg.Result, registry: qreg.Registry
) -> None:
    with pytest.raises(InputError, match="programs of backend 'toy' do not describe their inputs"):
        qreg.generate(result.program, [1], max_new_tokens=1, backend="toy", registry=registry)


def test_another_object_is_an_error() -> None:
    with pytest.raises(InputError, match="model: it is a Fibonacci"):
        qreg.generate(Fibonacci(), [1], max_new_tokens=1)  # type: ignore[arg-type]
