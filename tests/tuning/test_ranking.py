"""Pins what the noises that order a search are measured with."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from qreg import Registry, SupportedConfig, hookimpl
from qreg.algorithms import stock
from qreg.configs.factory import Codes, config
from qreg.pipeline.selection import selected
from qreg.tuning.kinds import Kind
from qreg.tuning.making import Subject
from qreg.tuning.ranking import finer, noises
from qreg.tuning.values import Variant


def test_noises_in_another_config_are_those_with_the_algorithms_of_the_program(
    toy: ModuleType,
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    model[0].weight.data[3] *= 100  # an outlier, which the weight that reads it divides by
    model[1].weight.data[:, 3] /= 100
    batches = [(torch.randn(8, 16),) for _ in range(8)]
    registry = Registry({"toy": toy, "algorithms": stock}, entry_points=False)
    subject = Subject(
        torch.export.export(model, batches[0]),
        batches,
        lambda _: 1.0,
        registry,
        selection=selected(registry, ["smooth_quant"]),
    )
    plain, smooth = (
        noises(subject, Variant("toy", "minmax", algorithms))
        for algorithms in ((), ("smooth_quant",))
    )
    assert not isinstance(plain, str)
    assert not isinstance(smooth, str)
    (place,) = [each for each in plain if each.module == "1"]
    assert smooth[place] < plain[place] / 10


class Wide:
    """A config of int16 activations for the toy backend."""

    @hookimpl
    def qreg_supported_configs(self, backend: str) -> Iterable[SupportedConfig]:
        if backend == "toy":
            made = config(activation=Codes("int16", -(2**15), 2**15 - 1))
            yield SupportedConfig("wide", "int16 activations", "static", lambda: made)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("dynamic", 8, 8), ("static", 8, 8)),
        (("static", 16, 8), ("static", 8, 8)),
        (("static", 16, 8), ("dynamic", 8, 8)),
        (("dynamic", 8, 8), ("dynamic", 8, 4)),
        (("weight", 32, 8), ("weight", 32, 4)),
    ],
)
def test_kinds_that_lose_less(one: Any, other: Any) -> None:
    assert Kind(*one).is_finer(Kind(*other))
    assert not Kind(*other).is_finer(Kind(*one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("static", 8, 8), ("static", 8, 8)),
        (("dynamic", 8, 4), ("static", 8, 8)),
        (("static", 8, 8), ("dynamic", 8, 4)),
        (("static", 16, 4), ("static", 8, 8)),
        (("weight", 32, 8), ("static", 8, 8)),
        (("qat", 16, 8), ("static", 8, 8)),
    ],
)
def test_kinds_that_may_lose_more(one: Any, other: Any) -> None:
    assert not Kind(*one).is_finer(Kind(*other))


def test_more_bits_of_activations_are_a_finer_step(toy: ModuleType) -> None:
    registry = Registry({"toy": toy, "wide": Wide()}, entry_points=False)
    assert "wide" in finer(registry, Variant("toy", "minmax"))
    assert list(finer(registry, Variant("toy", "wide"))) == []
