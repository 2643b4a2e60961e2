"""Pins the score of a model: by hand, and when it counts as better."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg import Registry
from qreg.graph.prepared import copied, float_graph
from qreg.pipeline.calibrate import calibrate, convert
from qreg.pipeline.score import Score, scored


class Two(nn.Module):
    """Two outputs, and the class as a third."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.fc(x)
        return y, x.tanh(), y.argmax(1)


def batches(count: int = 3) -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(50, 4, generator=generator),) for _ in range(count)]


def test_it_is_that_of_the_converted_model(registry: Registry) -> None:
    quantizer = qreg.get_quantizer("toy", registry=registry)
    model = qreg.prepare(Two().eval(), quantizer, batches()[0])
    calibrate(model, batches(), progress=False)
    found = scored(float_graph(model), model, batches())
    converted = convert(copied(model))
    pairs = [(Two().eval()(x)[0].detach(), converted(x)[0]) for (x,) in batches()]
    signal = sum(float(a.double().square().sum()) for a, _ in pairs)
    noise = sum(float((a - b).double().square().sum()) for a, b in pairs)
    assert found.outputs == (pytest.approx(10 * math.log10(signal / noise), abs=0.01), 100.0)
    assert found.operators["linear"] == pytest.approx(found.outputs[0], abs=3)
    assert found.changed == sum(int((a.argmax(1) != b.argmax(1)).sum()) for a, b in pairs)
    assert found.rows == 300  # of the linear and of the tanh
    assert found.mean == pytest.approx((found.outputs[0] + 100) / 2)


class Late(nn.Module):
    """A linear of its input and that of the call ahead."""

    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 3)
        self.register_buffer("last", torch.zeros(50, 4))

    def forward(self, x: Tensor) -> Tensor:
        read = x + self.last
        self.last.copy_(x)
        return self.fc(read)  # type: ignore[no-any-return]


def test_each_batch_finds_the_state_of_the_first(registry: Registry) -> None:
    model = qreg.prepare(Late().eval(), qreg.get_quantizer("toy", registry=registry), batches()[0])
    calibrate(model, batches(), progress=False)
    reference = float_graph(model)
    alone = [scored(reference, model, [batch]).batches[0] for batch in batches()]
    assert scored(reference, model, batches()).batches == tuple(alone)
    assert all(each.eq(0).all() for each in reference.buffers() if each.shape == (50, 4))


@pytest.mark.parametrize(
    ("score", "better"),
    [
        (Score((11.0, 20.0)), True),
        (Score((10.9, 20.0)), False),  # 0.45 dB in the mean
        (Score((12.0, 19.6)), False),  # one output loses 0.4 dB
        (Score((12.0, 19.8)), True),
        (Score((12.0, 20.0), changed=12, rows=500), True),
        (Score((12.0, 20.0), changed=13, rows=500), False),  # 11 rows of 500 are 2.2 %
        (Score((12.0, 20.0), changed=3, rows=8), True),
        (Score((12.0, 20.0), changed=4, rows=8), False),
        (Score((12.0, 20.0), batches=(15.1, 15.2, 15.3)), True),  # better in all
        (Score((12.0, 20.0), batches=(16.0, 16.0, 14.9)), False),  # too few for a standard error
        (Score((12.0, 20.0), batches=(16.0, 17.0, 16.0, 14.9)), True),  # 0.98 by 0.43
        (Score((12.0, 20.0), batches=(25.0, 17.0, 12.0, 14.0)), False),  # 2.0 by 2.9
    ],
)
def test_what_counts_as_better(score: Score, better: bool) -> None:
    before = Score((10.0, 20.0), changed=2, rows=score.rows, batches=(15.0,) * len(score.batches))
    assert score.improves(before) is better


@pytest.mark.parametrize("squash", [nn.Softmax(-1), nn.Sigmoid()])
def test_probabilities_are_judged_by_what_they_are_made_of(
    registry: Registry, squash: nn.Module
) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(4, 3)
    scores = []
    for module in (linear, nn.Sequential(linear, squash)):
        model = qreg.prepare(
            module.eval(), qreg.get_quantizer("toy", registry=registry), batches()[0]
        )
        calibrate(model, batches(), progress=False)
        scores.append(scored(float_graph(model), model, batches()))
    plain, squashed = scores
    # The output of the linear layer is judged ahead of its rounding for the next operator.
    assert squashed.outputs[0] == pytest.approx(squashed.operators["linear"])
    assert squashed.outputs[0] == pytest.approx(plain.operators["linear"], abs=0.01)
    assert len(squashed.batches) == 3


def test_an_operator_is_worse_by_more_than_a_tolerance() -> None:
    before = Score((), {"a": 20.0})
    assert Score((), {"a": 19.6}).worsens(before, "a")
    assert not Score((), {"a": 19.8}).worsens(before, "a")
    assert not Score((), {"b": 0.0}).worsens(before, "a")
