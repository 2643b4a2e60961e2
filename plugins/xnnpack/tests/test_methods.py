"""Programs with several methods: they share state, constants, and the cache of a language model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_interfaces import LENGTH, TOKENS
from torch import Tensor, nn

import qreg
from qreg.errors import InputError
from qreg_xnnpack.interfaces import interfaces
from qreg_xnnpack.runtime import load, load_methods

WIDE = 256


class Sum(nn.Module):
    """Returns the next token after the sum of all tokens that it has read, in one-hot vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = nn.Buffer(torch.zeros(LENGTH, 1))
        self.ids = nn.Embedding.from_pretrained(torch.arange(float(TOKENS))[:, None])
        self.wide = nn.Linear(1, WIDE)
        self.square = nn.Linear(WIDE, WIDE)

    def forward(self, input_ids: Tensor, cache_position: Tensor) -> Tensor:
        self.cache.index_copy_(0, cache_position, self.ids(input_ids)[0])
        total = self.cache.sum().remainder(TOKENS)
        logits = -(torch.arange(TOKENS) - total).abs()
        unused = self.square(self.wide(self.cache)).sum() * 0
        return (logits + unused).expand(1, input_ids.shape[1], TOKENS)


def quantized(model: nn.Module, count: int) -> qreg.Result:
    example = {"input_ids": torch.ones(1, count).long(), "cache_position": torch.arange(count)}
    length = torch.export.Dim("length", max=LENGTH - 1)
    shapes = {"input_ids": {1: length}, "cache_position": {0: length}} if count > 1 else None
    return qreg.quantize(
        model.eval(),
        example,
        config="int8_dynamic_per_channel",
        dynamic_shapes=shapes,
        progress=False,
    )


@pytest.fixture(scope="module")
def alone() -> dict[str, qreg.Result]:
    torch.manual_seed(0)
    model = Sum()
    return {"prefill": quantized(model, 3), "decode": quantized(model, 1)}


@pytest.fixture(scope="module")
def both(alone: dict[str, qreg.Result]) -> dict[str, qreg.Result]:
    return qreg.combine(alone)


def test_prefill_and_decode_share_a_cache(both: dict[str, qreg.Result], tmp_path: Path) -> None:
    """Each token is the sum of all before it."""
    path = tmp_path / "sum.pte"
    both["decode"].save(path)
    for program in (both, both["prefill"].program, path, both["prefill"]):
        assert qreg.generate(program, [1, 2, 1], max_new_tokens=5) == [4, 8, 0, 0, 0]
    run = load_methods(both["prefill"].program)
    run["prefill"]([torch.tensor([[1, 2]]), torch.tensor([0, 1])])
    (logits,) = run["decode"]([torch.tensor([[3]]), torch.tensor([2])])
    assert logits.argmax(-1).tolist() == [[6]]


def test_methods_share_constants(
    alone: dict[str, qreg.Result], both: dict[str, qreg.Result]
) -> None:
    """The weights are most of each program."""
    one = len(alone["decode"].program)
    assert one > WIDE**2
    assert len(both["decode"].program) < 1.4 * one


def test_each_method_is_read_and_verified(
    alone: dict[str, qreg.Result], both: dict[str, qreg.Result]
) -> None:
    for name, result in both.items():
        assert result.verification is not None
        assert result.verification.to_converted[0].sqnr > 60
        assert result.counts == alone[name].counts
        assert result.lowered.outside == alone[name].lowered.outside
    assert set(interfaces(both["decode"].program)) == {"prefill", "decode"}


def test_loading_one_of_several_methods_names_them(both: dict[str, qreg.Result]) -> None:
    with pytest.raises(InputError, match=r"its methods are decode, prefill \(expected one method"):
        load(both["decode"].program)


def test_methods_with_separate_caches_do_not_generate(alone: dict[str, qreg.Result]) -> None:
    class Renamed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Sum()

        def forward(self, input_ids: Tensor, cache_position: Tensor) -> Tensor:
            return self.inner(input_ids, cache_position) * 1.0

    apart = qreg.combine({"prefill": quantized(Renamed(), 3), "decode": alone["decode"]})
    for program in (apart, apart["decode"].program):
        with pytest.raises(InputError, match="its methods do not share a vocabulary and caches"):
            qreg.generate(program, [1, 2], max_new_tokens=2)
