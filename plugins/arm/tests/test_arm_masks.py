"""Scores that a mask hides leave the others precise, in whatever form the mask comes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.observers.merging import range_of
from qreg.observers.scores import ScoresObserver, ends
from qreg.verification.metrics import compare

TOKENS, WIDTH, HIDDEN = 8, 16, -1e4
LOWEST = torch.finfo(torch.float32).min
Batch = tuple[Tensor, Tensor, Tensor]


class Masked(nn.Module):
    """Attentions that share their scores; each has another form of a mask."""

    def __init__(self, forms: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.register_buffer("causal", torch.full((TOKENS, TOKENS), HIDDEN).triu(1))
        self.forms = forms

    def forward(self, x: Tensor, keep: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        scores = self.query(x) @ self.key(x).transpose(-1, -2)
        masked = (
            scores + mask,
            scores + (1 - keep)[:, None] * HIDDEN,
            scores + self.causal,
            scores.masked_fill(self.causal < 0, LOWEST),
        )
        value = self.value(x)
        return tuple(each.softmax(-1) @ value for each in masked[: self.forms])


def batch() -> Batch:
    """Inputs of which the last tokens are hidden; the mask as zeros of ``keep``, and as summand."""
    keep = (torch.arange(TOKENS) < torch.randint(3, TOKENS, (2, 1))).float()
    return torch.randn(2, TOKENS, WIDTH), keep, ((1 - keep) * HIDDEN)[:, None]


def batches() -> list[Batch]:
    torch.manual_seed(1)
    return [batch() for _ in range(4)]


def test_the_scores_that_are_left_keep_their_precision() -> None:
    model, data = Masked(4).eval(), batches()
    prepared = qreg.prepare(model, qreg.get_quantizer("arm"), data[0])
    qreg.calibrate(prepared, data)
    converted = qreg.convert(prepared)
    with torch.no_grad():
        pairs = zip(model(*data[0]), converted(*data[0]), strict=True)
        assert all(compare(wanted, got).sqnr > 30 for wanted, got in pairs)


RETURNED: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "a sum": lambda x, y: (x + y, x),
    "what is masked": lambda x, y: (x.masked_fill(y < 0, LOWEST), x),
    "what a number hides": (lambda x, y: (torch.where(y < 0, torch.full_like(x, HIDDEN), x), x)),
    "a summand": lambda x, y: (x * 9 + y, x * 9),
}


class Returned(nn.Module):
    """Scores that are an output, too: the sum of a softmax, or what it is made from."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores, made_from = RETURNED[self.name](x + y, y)
        return scores.softmax(-1), scores if self.name == "a sum" else made_from


@pytest.mark.parametrize("name", RETURNED)
def test_scores_that_others_read_keep_their_low_values(name: str) -> None:
    inputs = torch.linspace(-40, 20, 16)[None], torch.linspace(-1, 1, 16)[None]
    model = Returned(name)
    prepared = qreg.prepare(model, qreg.get_quantizer("arm"), inputs)
    qreg.calibrate(prepared, [inputs])
    (weights, scores), wanted = qreg.convert(prepared)(*inputs), model(*inputs)
    assert (scores - wanted[1]).abs().max() < 0.02 * wanted[1].abs().max()
    torch.testing.assert_close(weights, wanted[0], rtol=0, atol=0.2)


def test_hidden_tokens_have_no_weight_in_the_program() -> None:
    data = batches()
    result = qreg.quantize(
        Masked(2).eval(), data[0], calibration=data, backend="arm", progress=False
    )
    assert result.verification is not None
    assert all(each.sqnr > 30 for each in result.verification.to_float)
    assert result.report.counts.get("float", 0) == 0
    x, keep, mask = data[0]
    other = torch.where(keep[..., None] > 0, x, 3 * torch.randn_like(x))
    for shown, changed in zip(
        result.run(x, keep, mask), result.run(other, keep, mask), strict=True
    ):
        assert torch.equal(shown[keep > 0], changed[keep > 0])


def test_a_range_ends_at_a_depth_below_the_lowest_maximum_of_a_row() -> None:
    hidden = [HIDDEN, HIDDEN, HIDDEN + 1]
    rows = torch.tensor([[3.0, 1.0, HIDDEN], [2.0, -9.0, HIDDEN], hidden])
    assert ends(rows, 6) == (-4, 3)
    assert ends(rows[:1, :2], 6) == (1, 3)
    assert ends(torch.tensor(-20.0), 6) is None


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_hidden_rows_count_where_no_other_is_seen(order: tuple[int, int]) -> None:
    parts = torch.full((2, 5), HIDDEN), torch.tensor([[3.0, 1.0, HIDDEN], [2.0, -9.0, HIDDEN]])
    observer = ScoresObserver(depth=6)
    seen = [observer(parts[part]) is not None and observer.max_val.item() for part in order]
    assert seen == [HIDDEN if part == order[0] == 0 else 3 for part in order]
    assert (observer.min_val, observer.max_val) == (-4, 3)
    in_shards = range_of(observer).merged(
        range_of(observer).updated(None, parts[part]) for part in order
    )
    assert in_shards == (-4, 3)


def test_scores_that_are_all_low_are_scores() -> None:
    rows = torch.stack([torch.linspace(-1400, end, 8) for end in (-1000, -900)])
    prepared = qreg.prepare(nn.Softmax(-1), qreg.get_quantizer("arm"), rows)
    qreg.calibrate(prepared, [rows])
    found = qreg.convert(prepared)(rows)
    torch.testing.assert_close(found, rows.softmax(-1), rtol=0, atol=0.02)
