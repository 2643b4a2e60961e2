"""Pins that a simulated model computes what the converted one does, and how a walk runs."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter

import qreg
from qreg import Registry
from qreg.algorithms.simulation import Simulation, Walk, not_simulated
from qreg.graph.prepared import constants_late, copied, float_graph
from qreg.pipeline.calibrate import calibrate, convert


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()) + x


def batches(count: int = 4) -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(5, 6, generator=generator),) for _ in range(count)]


def prepared(registry: Registry, config: str = "minmax", model: Any = None) -> GraphModule:
    quantizer = qreg.get_quantizer("toy", config, registry=registry)
    made = qreg.prepare(model or Net().eval(), quantizer, batches()[0])
    calibrate(made, batches(), progress=False)
    return made


@pytest.mark.parametrize("config", ["minmax", "histogram", "dynamic"])
def test_it_computes_what_the_converted_model_computes(registry: Registry, config: str) -> None:
    model = prepared(registry, config)
    simulation = Simulation(model)
    simulated = [simulation.run(*batch) for batch in batches()]
    plain = [float_graph(model)(*batch) for batch in batches()]
    converted = convert(copied(model))
    for found, batch, exact in zip(simulated, batches(), plain, strict=True):
        torch.testing.assert_close(found, converted(*batch), atol=1e-6, rtol=1e-6)
        assert (found - exact).abs().max() > 1e-3  # so that equality means something


@pytest.mark.parametrize(("most", "kept"), [(0, 1), (2 * 4 * 6 * 8 - 1, 1), (2 * 4 * 6 * 8, 2)])
def test_constants_that_are_not_kept_are_rounded_again(
    registry: Registry, most: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = prepared(registry)
    rounded = [Simulation(model).run(*batch) for batch in batches()]
    monkeypatch.setattr("qreg.algorithms.simulation.KEPT", most)
    simulation = Simulation(model)
    assert all(torch.equal(simulation.run(*x), y) for x, y in zip(batches(), rounded, strict=True))
    assert len(simulation._constants) == kept


def most_together(model: GraphModule) -> int:
    """Return how many rounded weights are in memory at once while a batch runs."""
    alive = weakref.WeakValueDictionary[int, Tensor]()
    counts: list[int] = []

    def seen(node: Any, value: Any) -> None:
        if node.op == "call_module" and node.all_input_nodes[0].op == "get_attr":
            alive[id(value)] = value
        counts.append(len(alive))

    Simulation(model, seen).run(*batches()[0])
    return max(counts)


def test_rounded_weights_are_not_in_memory_together(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qreg.algorithms.simulation.KEPT", 0)
    model = prepared(registry)
    expected = Simulation(model).run(*batches()[0])
    assert most_together(model) == 2
    late = constants_late(copied(model))
    assert most_together(late) == 1
    assert torch.equal(Simulation(late).run(*batches()[0]), expected)
    assert torch.equal(late(*batches()[0]), model(*batches()[0]))


def test_converting_a_copy_leaves_the_model(registry: Registry) -> None:
    model = prepared(registry)
    before = str(model.graph)
    convert(copied(model))
    assert str(model.graph) == before
    torch.testing.assert_close(convert(model)(*batches()[0]).isfinite().all(), torch.tensor(True))


def test_fake_quantizers_are_not_simulated(registry: Registry) -> None:
    quantizer = qreg.get_quantizer("toy", "qat", registry=registry)
    model = qreg.prepare(Net(), quantizer, batches()[0])
    assert "quantization-aware training" in (not_simulated(model) or "")


def test_what_is_supported_has_no_reason(registry: Registry) -> None:
    for config in ("minmax", "histogram", "dynamic"):
        assert not_simulated(prepared(registry, config)) is None


def test_a_walk_runs_all_batches_operator_by_operator(registry: Registry) -> None:
    model = float_graph(prepared(registry))
    seen = {node.name: values for node, values in Walk(Interpreter(model), batches())}
    for number, (x,) in enumerate(batches()):
        torch.testing.assert_close(seen["linear"][number], Net().first(x))
        torch.testing.assert_close(seen["add"][number], Net()(x))


def test_a_walk_passes_replaced_values_on(registry: Registry) -> None:
    walk = Walk(Interpreter(float_graph(prepared(registry))), batches())
    for node, values in walk:
        if node.name == "linear_1":
            walk.replace(node, [torch.zeros_like(each) for each in values])
        if node.name == "add":
            assert all(torch.equal(v, x) for v, (x,) in zip(values, batches(), strict=True))
            return
    raise AssertionError("the walk ended ahead of the add")


def test_a_walk_keeps_only_what_is_still_read(registry: Registry) -> None:
    walk = Walk(Interpreter(float_graph(prepared(registry))), batches())
    most = 0
    for _ in walk:
        most = max(most, *(len(values) for values in walk._values))
    nodes = len(float_graph(prepared(registry)).graph.nodes)
    assert most < nodes - 2
