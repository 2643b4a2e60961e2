"""Pins when observers are taken from another prepared graph, and when they are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from quantizing import Net, TwoLinears, X, batches
from torch.fx import GraphModule

import qreg
from qreg import Registry
from qreg.graph.observed import take_observers
from qreg.graph.prepared import observers


@pytest.fixture
def prepared(registry: Registry) -> Callable[..., GraphModule]:
    def make(model: torch.nn.Module, *in_float: str, config: str = "minmax") -> GraphModule:
        quantizer = qreg.get_quantizer("toy", config, registry=registry, allow_float=True)
        for name in in_float:
            quantizer.set_module_name(name, None)
        return qreg.prepare(model.eval(), quantizer, X)

    return make


def ranges(model: GraphModule) -> dict[str, tuple[float, float]]:
    found = {node.all_input_nodes[0].name: each for node, each in observers(model).items()}
    return {name: (float(each.min_val), float(each.max_val)) for name, each in found.items()}


def test_fewer_observers_have_what_the_same_ones_observed(
    prepared: Callable[..., GraphModule],
) -> None:
    calibrated, fewer = prepared(TwoLinears()), prepared(TwoLinears(), "second")
    qreg.calibrate(calibrated, batches())
    assert take_observers(fewer, calibrated)
    known, found = ranges(calibrated), ranges(fewer)
    assert found.items() < known.items()
    before = dict(found)
    fewer(100 * X + 100)  # a copy observes alone
    assert ranges(calibrated) == known
    assert ranges(fewer) != before


def test_observers_without_a_counterpart_are_left_as_they_are(
    prepared: Callable[..., GraphModule],
) -> None:
    calibrated = prepared(TwoLinears(), "second")
    qreg.calibrate(calibrated, batches())
    others = (prepared(TwoLinears()), prepared(Net()), prepared(TwoLinears(), config="histogram"))
    for other in others:
        modules = list(observers(other).values())
        assert not take_observers(other, calibrated)
        assert list(observers(other).values()) == modules
