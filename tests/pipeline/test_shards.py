"""Pins calibration in shards: the same qparams, bit for bit, for any number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from quantizing import batches, quantize
from torch import Tensor, nn
from torch.export import Dim
from torch.fx import GraphModule
from torchao.quantization.pt2e import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    PerChannelMinMaxObserver,
)

import qreg
from qreg import Registry
from qreg.algorithms import stock
from qreg.errors import CalibrationError, InputError
from qreg.graph.prepared import observers
from qreg.observers import merging
from qreg.observers.observation import Counts, Range
from qreg.observers.scores import ScoresObserver
from qreg.pipeline.shards import Sharded
from qreg.pipeline.storage import stored


@pytest.fixture(autouse=True, scope="module")
def no_processes_left() -> Iterator[None]:
    yield
    get_reusable_executor().shutdown(kill_workers=True)


class Convnet(nn.Module):
    """Convolutions with batch norms, activations in place, a sum, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.body = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = (self.body(x) + x).relu_()
        return self.head(x.mean((2, 3)))


class Block(nn.Module):
    """A transformer block with one head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))
        return x + self.down(self.up(x).relu())


def data(*shape: int) -> list[Tensor]:
    """Five batches of different sizes, the third with the widest range."""
    torch.manual_seed(1)
    sizes, scales = (2, 7, 3, 5, 4), (1, 0.5, 4, 2, 1)
    return [scale * torch.randn(size, *shape) for size, scale in zip(sizes, scales, strict=True)]


MODELS: dict[str, tuple[type[nn.Module], list[Tensor]]] = {
    "convnet": (Convnet, data(3, 12, 12)),
    "transformer block": (Block, data(6, 16)),
}


def constants(module: GraphModule) -> dict[str, Any]:
    """The arguments of every quantize and dequantize call, and the quantized weights."""
    calls = {n.name: n.args[1:] for n in module.graph.nodes if "quant" in str(n.target)}
    tensors = {name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()}
    return {**calls, **tensors}


def calibrated(
    registry: Registry, model: nn.Module, batches: list[Tensor], config: str, *split: int
) -> GraphModule:
    """A converted model that was calibrated by so many workers, with so many shards."""
    example = (batches[0],)
    program = torch.export.export(model.eval(), example, dynamic_shapes=({0: Dim.AUTO},))
    prepared = qreg.prepare(program, qreg.get_quantizer("toy", config, registry=registry))
    if not split:
        qreg.calibrate(prepared, batches, progress=False)
    with stored() as storage:
        for batch in batches if split else ():
            storage.add((batch,))
        if split:
            Sharded(prepared, program, example, storage, *split).calibrate(lambda: None)
    return qreg.convert(prepared)


@pytest.mark.parametrize("config", ["minmax", "histogram"])
@pytest.mark.parametrize("name", MODELS)
def test_qparams_do_not_depend_on_the_number_of_shards(
    registry: Registry, name: str, config: str
) -> None:
    kind, calibration = MODELS[name]
    # Of five batches, so that shards differ in size, and three of eight are empty.
    splits = [(1, 1), (2, 2), (2, 8)]
    found = [calibrated(registry, kind(), calibration, config, *each) for each in splits]
    first, *others = map(constants, found)
    assert any("quantize" in each for each in first)
    assert all(each == first for each in others)
    if config == "minmax":  # whose shards merge to what one process observes
        assert constants(calibrated(registry, kind(), calibration, config)) == first


def test_quantize_calibrates_in_several_processes(registry: Registry) -> None:
    alone, sharded = (quantize(registry, workers=each) for each in (None, 2))
    assert constants(alone.converted) == constants(sharded.converted)
    assert sharded.verification is not None
    assert sharded.verification.good


def test_a_histogram_counts_as_one_process_does(registry: Registry) -> None:
    # In one batch no range grows, so that nothing is moved to other bins.
    given = {"config": "histogram", "calibration": batches(1)}
    alone, sharded = (quantize(registry, workers=each, **given) for each in (None, 1))
    assert constants(alone.converted) == constants(sharded.converted)


def test_the_counts_of_shards_are_those_of_all_values() -> None:
    torch.manual_seed(0)
    values = torch.randn(30_000) * 3
    parts = values.split([10_000, 1, 19_999])
    observation = Range()
    ends = observation.merged([*(observation.updated(None, each) for each in parts), None])
    assert ends == (values.min(), values.max())
    counting = Counts(64, values.min().item(), values.max().item())
    counts = counting.merged(counting.updated(None, each) for each in reversed(parts))
    assert counts is not None
    assert counts.dtype == torch.int64
    assert counts.sum() == 30_000
    edges = torch.linspace(counting.low, counting.high, 65)
    for number in (0, 31, 63):
        inside = (values >= edges[number]) & (values < edges[number + 1])
        assert abs(int(counts[number] - inside.sum())) <= 1  # the last value, or an edge's rounding


def test_channels_are_merged_one_by_one() -> None:
    left, right = torch.randn(2, 3, 4), torch.randn(5, 3, 4)
    observation = merging.range_of(PerChannelMinMaxObserver(ch_axis=1))
    ends = observation.merged(observation.updated(None, each) for each in (left, right))
    assert ends is not None
    whole = torch.cat([left, right])
    assert torch.equal(ends[0], whole.amin((0, 2)))
    assert torch.equal(ends[1], whole.amax((0, 2)))


def test_infinities_are_ignored_by_histograms_alone() -> None:
    values = torch.tensor([1.0, float("inf"), 2.0])
    with pytest.warns(UserWarning, match="ignores infinities"):
        ends = merging.range_of(HistogramObserver()).updated(None, values)
    assert ends == (1, 2)
    assert merging.range_of(MinMaxObserver()).updated(None, values) == (1, float("inf"))


def test_masked_scores_are_observed_in_shards_as_in_one_process() -> None:
    torch.manual_seed(0)
    parts = torch.randn(2, 4, 6).index_fill(-1, torch.tensor([5]), -1e4)
    observer = ScoresObserver(depth=8.0)
    observation = merging.range_of(observer)
    ends = observation.merged(observation.updated(None, observer(each)) for each in parts)
    assert merging.why_not(observer) is None
    assert ends == (observer.min_val, observer.max_val)
    assert ends[0] == parts.amax(-1).min() - 8


class Percentile(HistogramObserver):
    """Computes qparams in another way."""

    def calculate_qparams(self) -> Any:
        return super().calculate_qparams()


class Halved(HistogramObserver):
    """Observes in another way."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / 2)


def test_an_observer_is_known_by_how_it_observes() -> None:
    assert merging.why_not(Percentile()) is None
    assert (
        merging.why_not(Halved()) == "what it observes in one shard cannot be merged with another"
    )
    moving = merging.why_not(MovingAverageMinMaxObserver())
    assert moving == "its moving average depends on the order of the batches"


def test_an_observer_that_depends_on_the_order_is_refused(registry: Registry) -> None:
    from toy import int8

    config = int8("MovingAverageMinMaxObserver")
    quantizer = qreg.get_quantizer("toy", config, registry=registry)
    with pytest.raises(InputError, match="the MovingAverageMinMaxObserver of x cannot be calibr"):
        quantize(registry, quantizer=quantizer, workers=2)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("total", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.total.add_(x.sum(0))
        return self.fc(x) + self.total


def test_a_model_that_writes_to_a_buffer_is_refused(registry: Registry) -> None:
    with pytest.raises(InputError, match="workers: the model writes to its buffer 'total'"):
        quantize(registry, Counting().eval(), workers=2)


class Root(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.sqrt() + x)


def test_nan_is_reported_with_the_operator_and_the_batch(registry: Registry) -> None:
    calibration = [each.abs() for each in batches(4)]
    calibration[3][0] = -1
    given = {"config": "histogram", "calibration": calibration, "workers": 2}
    with pytest.raises(CalibrationError, match="batch 3: sqrt is the first operator") as raised:
        quantize(registry, Root().eval(), **given)
    assert raised.value.batch == 3


class InPlace(nn.Module):
    """A sum with a constant, and a write in place to a value that was observed before."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        z = y + 1
        y.add_(x)
        return y + z


def test_an_observer_sees_a_value_before_it_is_changed_in_place(registry: Registry) -> None:
    torch.manual_seed(0)
    model, calibration = InPlace(), batches(3, 8, 4)
    alone, sharded = (
        calibrated(registry, model, calibration, "minmax", *split) for split in ((), (2, 2))
    )
    assert constants(alone) == constants(sharded)


def test_statistics_of_algorithms_are_those_of_one_process(registry: Registry) -> None:
    def collect(value: Any, node: Any, inputs: Any, output: Tensor) -> Any:
        return (0 if value is None else value) + output.sum()

    seen: list[Any] = []
    ranges: list[Any] = []

    def keep(candidate: Any, calibration: qreg.Calibration) -> list[qreg.Change]:
        seen.append({k: v.item() for k, v in calibration.statistics["sum"].items()})
        ranges.append([each.min_val for each in observers(candidate.model).values()])
        return []

    statistic = qreg.Statistic("sum", collect)
    algorithm = qreg.Algorithm("sums", "prepared", "sums", keep, statistics=[statistic])
    for workers in (None, 1):
        quantize(registry, algorithms=[algorithm], calibration=batches(6), workers=workers)
    assert seen[0] == seen[1] != {}
    assert ranges[0] == ranges[1] != []


def test_algorithms_that_look_at_observers_find_them(registry: Registry) -> None:
    algorithms, tried = [stock.gptq(), stock.bias_correction()], []
    for workers in (None, 1):
        found = quantize(registry, algorithms=algorithms, calibration=batches(6), workers=workers)
        tried.append([(each.algorithm, each.before, each.after) for each in found.algorithms])
    assert tried[0] == tried[1]
    assert tried[0][0][1] is not None  # a change was tried
