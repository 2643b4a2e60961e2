"""Pins bias correction to a calculation by hand: the mean of the output is that of the float one.

For a single layer the corrected bias is ``b + mean(W x) - mean(q(W) q(x))`` over all samples and
places, which is computed here from the layer's modules and the observers' qparams.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from layered import KINDS, Subject, batches, subject
from torch import Tensor, nn
from torch.fx import GraphModule

from qreg.algorithms import stock
from qreg.algorithms.layers import BIAS, INPUT, WEIGHT, layers
from qreg.algorithms.simulation import Simulation
from qreg.graph.values import constant_at, value_of

PLAIN = stock.bias_correction(shrink=False)


def by_hand(given: Subject, module: Any, data: list[tuple[Tensor]]) -> Tensor:
    """Return the shift of each channel's mean when the weight and the input are rounded."""
    (layer,) = layers(given.candidate.model)
    rounded = copy.deepcopy(module)
    rounded.weight.data = _rounded(given.candidate.model, layer.node, WEIGHT, module.weight.data)
    lost = []
    for (x,) in data:
        entering = _rounded(given.candidate.model, layer.node, INPUT, x)
        lost.append((module(x) - rounded(entering)).movedim(layer.channels, 0).flatten(1))
    return torch.cat(lost, 1).double().mean(1)


def _rounded(model: GraphModule, node: Any, position: int, x: Tensor) -> Tensor:
    """Round by the qparams of an observer, with torch's arithmetic alone."""
    observer: Any = model.get_submodule(str(node.args[position].target))
    scale, zero = observer.calculate_qparams()
    if scale.numel() > 1:
        shape = [1] * x.dim()
        shape[observer.ch_axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    integers = (x / scale + zero).round().clamp(observer.quant_min, observer.quant_max)
    return (integers - zero) * scale


@pytest.mark.parametrize("config", ["channel4", "tensor8"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bias_makes_up_for_the_shift_of_the_mean(kind: str, config: str) -> None:
    model, shape = KINDS[kind]
    data = batches(shape)
    given = subject(model, data, config)
    (change,) = given.changes(PLAIN)
    with torch.no_grad():
        shift = by_hand(given, model[0], data)  # type: ignore[index]
    bias = model[0].bias  # type: ignore[index]
    before = torch.zeros(len(shift)) if bias is None else bias.detach()
    found = change.constants[BIAS]
    torch.testing.assert_close(found, before + shift.float(), atol=1e-5, rtol=1e-4)
    assert (found - before).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_of_the_changed_model_is_that_of_float(kind: str) -> None:
    model, shape = KINDS[kind]
    data = batches(shape)
    given = subject(model, data, "channel4")
    (layer,) = layers(given.candidate.model)

    def means(graph: GraphModule, runner: Any) -> Tensor:
        seen: list[Tensor] = []

        def see(node: Any, value: Any) -> None:
            if node.name == layer.name:
                seen.append(value.movedim(layer.channels, 0).flatten(1))

        for each in data:
            Simulation(graph, see).run(*each)
        return torch.cat(seen, 1).mean(1)

    with torch.no_grad():
        wanted = means(given.candidate.reference, None)
        found = means(given.changed(*given.changes(PLAIN)), None)
        before = means(given.changed(), None)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert (before - wanted).abs().max() > 1e-4


class Shared(nn.Module):
    """Two layers with one bias, and a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.twice = (nn.Linear(6, 6) for _ in range(3))
        self.second.bias = self.first.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.twice(self.twice(self.second(self.first(x)).relu()))


def test_each_reader_of_a_shared_bias_gets_its_own() -> None:
    given = subject(Shared(), batches((8, 6)), "channel4")
    changes = {each.node: each.constants[BIAS] for each in given.changes(PLAIN)}
    assert len(changes) == 4
    changed = given.changed(*given.changes(PLAIN))
    nodes = {node.name: node for node in changed.graph.nodes}
    for name, bias in changes.items():
        constant = constant_at(nodes[name], BIAS)
        assert constant is not None
        assert torch.equal(value_of(changed, constant), bias)
    one, two, *_ = changes.values()
    assert not torch.equal(one, two)
    assert torch.equal(Shared().first.bias, given.candidate.model.first.bias)


def test_a_layer_corrects_what_the_corrected_ones_upstream_leave() -> None:
    """The last layer's mean is right even though the first one's input range cuts values off."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4))
    data = batches((8, 6))
    given = subject(model, data, "tensor4")
    changed = given.changed(*given.changes(PLAIN))
    last = [node for node in changed.graph.nodes if "linear" in str(node.target)][-1]

    def mean(graph: GraphModule) -> Tensor:
        seen: list[Tensor] = []
        run = Simulation(graph, lambda n, v: seen.append(v) if n.name == last.name else None).run
        for each in data:
            run(*each)
        return torch.cat(seen).mean(0)

    with torch.no_grad():
        torch.testing.assert_close(
            mean(changed), mean(given.candidate.reference), atol=1e-5, rtol=1e-4
        )


def test_a_shift_beyond_the_threshold_is_left() -> None:
    """NNCF compares the largest shift of a layer with its largest bias."""
    model, shape = KINDS["linear"]
    data = batches(shape)
    given = subject(model, data, "channel4")
    with torch.no_grad():
        shift = by_hand(given, model[0], data)  # type: ignore[index]
    ratio = float(shift.abs().max() / model[0].bias.abs().max())  # type: ignore[index]
    assert given.changes(stock.bias_correction(threshold=0.9 * ratio, shrink=False)) == []
    assert len(given.changes(stock.bias_correction(threshold=1.1 * ratio, shrink=False))) == 1


def test_layers_in_float_are_left() -> None:
    given = subject(Shared(), batches((8, 6)), "channel4", first=None)
    assert len(given.changes(PLAIN)) == 3


def test_a_shift_that_differs_from_batch_to_batch_is_not_corrected() -> None:
    """By hand: the share ``1 - se**2 / shift**2``, at least 0, over the channels of the layer."""
    model, shape = KINDS["linear"]
    data = batches(shape)
    given = subject(model, data, "channel8")
    with torch.no_grad():
        shifts = torch.stack([by_hand(given, model[0], [each]) for each in data])  # type: ignore[index]
    shift = shifts.mean(0)
    error = shifts.var(0) / len(data)
    share = float((1 - error.sum() / shift.square().sum()).clamp(min=0))
    assert 0 < share < 1
    (change,) = given.changes(stock.bias_correction())
    bias = model[0].bias.detach()  # type: ignore[index]
    torch.testing.assert_close(
        change.constants[BIAS], bias + (share * shift).float(), atol=1e-6, rtol=1e-4
    )


def test_a_single_batch_is_taken_at_its_word() -> None:
    model, shape = KINDS["linear"]
    given = subject(model, batches(shape, 1), "channel4")
    (one,), (other,) = (given.changes(each) for each in (PLAIN, stock.bias_correction()))
    assert torch.equal(one.constants[BIAS], other.constants[BIAS])
