"""Pins what a trial is made with."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from attrs import evolve
from quantizing import Net, batches

import qreg
from qreg import Registry
from qreg.algorithms import stock
from qreg.errors import AlgorithmError
from qreg.pipeline.selection import selected
from qreg.tuning.elsewhere import Elsewhere
from qreg.tuning.making import Subject
from qreg.tuning.values import Variant

BATCHES = [(each,) for each in batches()]


def test_parameters_of_algorithms_are_kept(toy: ModuleType) -> None:
    registry = Registry({"toy": toy, "algorithms": stock}, entry_points=False)
    subject = Subject(
        torch.export.export(Net().eval(), BATCHES[0]),
        BATCHES,
        lambda _: 1.0,
        registry,
        selection=selected(registry, [stock.bias_correction(shrink=False)]),
    )
    asked = ({"name": "bias_correction", "shrink": False},)
    result = subject.quantized(Variant("toy", "minmax", algorithms=("bias_correction",)))
    assert result.recipe.algorithms == subject.named == asked
    other = evolve(subject, selection=selected(registry, ["bias_correction"]))
    assert subject.identity["parameters"] != other.identity["parameters"] == "[]"


def test_workers_cannot_look_up_what_no_plugin_registers(registry: Registry) -> None:
    mine = qreg.Algorithm("mine", "prepared", "for a test", run=lambda *_: [])
    program = torch.export.export(Net().eval(), BATCHES[0])
    chosen = selected(registry, [mine])
    subject = Subject(program, BATCHES, lambda _: 1.0, registry, selection=chosen)
    variant = Variant("toy", "minmax", algorithms=("mine",))
    with pytest.raises(AlgorithmError, match=r"'mine': .* no plugin registers it"):
        list(Elsewhere(subject, 2).made([variant], {}))
