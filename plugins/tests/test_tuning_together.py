"""A search over several backends, with trials in several processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import qreg

SCALES = torch.tensor([0.1, 1.0, 30.0, 3.0])


def model() -> nn.Module:
    """A classifier of raw features, whose first layer normalises them."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    made[0].weight.data /= SCALES
    return made


def batches(count: int, seed: int) -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(SCALES * torch.randn(8, 4, generator=generator),) for _ in range(count)]


def metric() -> Callable[[Any], float]:
    """The share of labels as in float; workers cannot import this module, so it refers to none."""
    held_out, plain = batches(25, seed=2), model()
    wanted = [plain(*batch).argmax(1) for batch in held_out]

    def accuracy(run: Any) -> float:
        pairs = zip(held_out, wanted, strict=True)
        right = [(run(*batch).argmax(1) == labels).tolist() for batch, labels in pairs]
        return sum(map(sum, right)) / sum(map(len, right))

    return accuracy


def test_processes_find_what_one_finds(tmp_path: Path) -> None:
    data, accuracy = batches(8, seed=1), metric()
    options = {"calibration": data, "evaluate": accuracy, "max_drop": 0.02, "progress": False}
    backends = ["xnnpack", "onnxruntime"]
    one = qreg.tune(model(), data[0], backends=backends, **options)
    two = qreg.tune(
        model(), data[0], backends=backends, workers=2, work=tmp_path / "work", **options
    )
    assert one.met
    assert two.met
    assert {each.variant.backend for each in two.trials} == set(backends)
    known = {each.variant.key: each for each in one.trials}
    both = [each for each in two.trials if each.variant.key in known]
    assert both
    for each in both:
        alone = known[each.variant.key]
        assert (each.metric, each.digest, each.bytes) == (alone.metric, alone.digest, alone.bytes)
    assert two.result is not None
    assert accuracy(two.result.run) == two.confirmed
    for each in two.trials:
        assert two.store is not None
        assert (page := two.store.report(each.variant)) is not None
        assert page.stat().st_size > 0
