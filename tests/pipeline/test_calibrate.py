"""Pins calibration: the observers see every batch, and one that saw nothing is an error."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchao.quantization import pt2e
from torchao.quantization.granularity import PerGroup
from torchao.quantization.pt2e import MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec
from torchao.quantization.quant_primitives import MappingType

from qreg import Registry, calibrate, convert, get_quantizer
from qreg.annotators.rules import LARGEST_SCALAR
from qreg.configs import factory as specs
from qreg.errors import CalibrationError, InputError
from qreg.graph.compat import AFFINE_RANGED
from qreg.pipeline.calibrate import feed


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x


@pytest.fixture
def prepared(capture: Callable[..., GraphModule], registry: Registry) -> GraphModule:
    return prepare_pt2e(capture(Sum(), torch.zeros(2)), get_quantizer("toy", registry=registry))


def test_the_observers_see_every_batch(prepared: GraphModule) -> None:
    batches = [(torch.tensor([-3.0, 0.0]),), (torch.tensor([0.0, 5.0]),)]
    assert calibrate(prepared, batches) == 2
    observers = [each for each in prepared.modules() if isinstance(each, MinMaxObserver)]
    ranges = [(float(each.min_val), float(each.max_val)) for each in observers]
    assert ranges == [(-3.0, 5.0), (-6.0, 10.0)]


def test_each_batch_is_reported(prepared: GraphModule) -> None:
    reported: list[None] = []
    feed(prepared, [(torch.zeros(2),)] * 3, lambda: reported.append(None))
    assert len(reported) == 3


def test_no_batch_is_an_error(prepared: GraphModule) -> None:
    with pytest.raises(CalibrationError, match=r"calibration: no batch \(expected at least one\)"):
        calibrate(prepared, [])


class Pairs(Dataset[Tensor]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> Tensor:
        return torch.tensor(float(number))


class Names(Pairs):
    def __getitem__(self, number: int) -> dict[str, Tensor]:  # type: ignore[override]
        return {"x": super().__getitem__(number)}


LOADERS = {
    "a list of tuples": lambda: [(torch.tensor([0.0, 1.0]),), (torch.tensor([4.0, 5.0]),)],
    "a generator of tensors": lambda: (torch.tensor([0.0, n]) for n in (1.0, 5.0)),
    "a DataLoader of tensors": lambda: DataLoader(Pairs(), batch_size=2),
    "a DataLoader of tuples": lambda: DataLoader(TensorDataset(torch.arange(6.0)), batch_size=2),
    "a DataLoader of dicts": lambda: DataLoader(Names(), batch_size=2),
}


@pytest.mark.parametrize("name", LOADERS)
def test_batches_come_from_any_iterable(name: str, prepared: GraphModule) -> None:
    calibrate(prepared, LOADERS[name](), progress=False)
    observers = [each for each in prepared.modules() if isinstance(each, MinMaxObserver)]
    assert (float(observers[0].min_val), float(observers[0].max_val)) == (0.0, 5.0)


def test_no_more_batches_than_the_cap_are_asked_for(prepared: GraphModule) -> None:
    endless = ((torch.full((2,), float(number)),) for number in count())
    assert calibrate(prepared, endless, max_batches=3, progress=False) == 3
    assert float(next(endless)[0][0]) == 3


def test_a_cap_below_one_is_an_error(prepared: GraphModule) -> None:
    with pytest.raises(InputError, match="max_batches is 0: it must be at least 1"):
        calibrate(prepared, [], max_batches=0)


def test_no_batch_stays_in_memory(prepared: GraphModule) -> None:
    seen: list[weakref.ref[Tensor]] = []

    def batches() -> Iterator[Tensor]:
        for _ in range(5):
            batch = torch.randn(2)
            seen.append(weakref.ref(batch))
            yield batch

    calibrate(prepared, batches(), progress=False)
    assert [each() for each in seen] == [None] * 5


def test_labels_are_told_from_inputs(prepared: GraphModule) -> None:
    with pytest.raises(CalibrationError, match=r"batch 0: has 2 inputs.*Remove.*labels"):
        calibrate(prepared, [(torch.zeros(2), torch.tensor(1))])


def test_a_batch_that_does_not_fit_is_named(prepared: GraphModule) -> None:
    with pytest.raises(CalibrationError, match=r"batch 1: input 'x': has shape \(3,\)"):
        calibrate(prepared, [torch.zeros(2), torch.zeros(3)])


def test_nothing_is_differentiated(prepared: GraphModule) -> None:
    x = torch.ones(2, requires_grad=True)
    calibrate(prepared, [(x,)])
    assert not any(buffer.requires_grad for buffer in prepared.buffers())


@pytest.mark.parametrize("config", ["minmax", "histogram"])
def test_values_too_far_apart_for_a_scale_are_an_error(
    config: str, capture: Callable[..., GraphModule], registry: Registry
) -> None:
    for largest in (1e15, torch.finfo(torch.float32).max / 4):
        quantizer = get_quantizer("toy", config, registry=registry)
        prepared = prepare_pt2e(capture(Sum(), torch.zeros(2)), quantizer)
        calibrate(prepared, [torch.tensor([0.0, largest])], progress=False)  # observers hold both
        if largest < LARGEST_SCALAR:
            convert(prepared)
        else:
            with pytest.raises(CalibrationError, match="saw values too far apart for any scale"):
                convert(prepared)


@pytest.mark.parametrize("config", ["minmax", "histogram"])
def test_converting_without_calibration_is_an_error(
    config: str, capture: Callable[..., GraphModule], registry: Registry
) -> None:
    quantizer = get_quantizer("toy", config, registry=registry)
    prepared = prepare_pt2e(capture(Sum(), torch.zeros(2)), quantizer)
    with pytest.raises(CalibrationError, match="the observer of x saw no value"):
        convert(prepared)


def test_converting_after_calibration_quantizes(prepared: GraphModule) -> None:
    calibrate(prepared, [(torch.tensor([-1.0, 1.0]),)])
    called = [str(node.target) for node in convert(prepared).graph.nodes]
    assert "quantized_decomposed.quantize_per_tensor.default" in called


# Quantization-aware training

PER_TENSOR, PER_CHANNEL = torch.per_tensor_symmetric, torch.per_channel_symmetric


def qat_config(
    activation: Any, weight: Any, weight_scheme: torch.qscheme, *, dynamic: bool = False
) -> QuantizationConfig:
    """Fake quantizers of one class; the weight's observer is given with its own arguments."""
    spec = QuantizationSpec(
        torch.int8,
        activation,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        is_dynamic=dynamic,
    )
    axis = 0 if weight_scheme == PER_CHANNEL else None
    factor = QuantizationSpec(
        torch.int8, weight, quant_min=-127, quant_max=127, qscheme=weight_scheme, ch_axis=axis
    )
    return QuantizationConfig(spec, None if dynamic else spec, factor, None, True)


FUSED, PLAIN = pt2e.FusedMovingAvgObsFakeQuantize, pt2e.FakeQuantize
QAT = {
    "fused, per tensor": qat_config(FUSED, FUSED, PER_TENSOR),
    "fused, per channel": qat_config(
        FUSED,
        FUSED.with_args(observer=pt2e.MovingAveragePerChannelMinMaxObserver),
        PER_CHANNEL,
    ),
    "moving average": qat_config(
        PLAIN.with_args(observer=pt2e.MovingAverageMinMaxObserver),
        PLAIN.with_args(observer=pt2e.PerChannelMinMaxObserver),
        PER_CHANNEL,
    ),
    "minimum and maximum": qat_config(
        PLAIN.with_args(observer=pt2e.MinMaxObserver),
        PLAIN.with_args(observer=pt2e.MinMaxObserver),
        PER_TENSOR,
    ),
    "of this project, per channel": specs.config(is_qat=True),
    "of this project, per tensor": specs.config(is_qat=True, per_channel=False),
}


@pytest.fixture
def linear(capture: Callable[..., GraphModule], registry: Registry) -> Callable[..., GraphModule]:
    """A linear layer that is prepared for training under a config."""

    def prepare(config: QuantizationConfig) -> GraphModule:
        torch.manual_seed(0)
        model = capture(nn.Linear(4, 3), torch.zeros(2, 4))
        return prepare_qat_pt2e(model, get_quantizer("toy", config, registry=registry))

    return prepare


@pytest.mark.parametrize("name", QAT)
def test_a_model_that_was_prepared_for_training_and_never_run_is_an_error(
    name: str, linear: Callable[..., GraphModule]
) -> None:
    prepared = linear(QAT[name])
    pt2e.move_exported_model_to_eval(prepared)
    with pytest.raises(CalibrationError, match="fake quantizer of weight saw no value: no batch"):
        convert(prepared)


@pytest.mark.parametrize("name", QAT)
def test_a_trained_model_converts_to_what_its_fake_quantizers_compute(
    name: str, linear: Callable[..., GraphModule]
) -> None:
    prepared, x = linear(QAT[name]), torch.randn(8, 4)
    for _ in range(3):
        prepared(x).sum().backward()
    prepared.apply(pt2e.disable_observer)
    trained = prepared(x)
    step, _ = fake_quantizers(prepared)["linear"].calculate_qparams()
    difference = (convert(prepared)(x) - trained).abs()  # values between two steps may go to either
    assert difference.max() <= 1.01 * step
    assert (difference > 0.01 * step).sum() <= 6


def fake_quantizers(prepared: GraphModule) -> dict[str, pt2e.FakeQuantizeBase]:
    """The fake quantizers by the node whose value they see."""
    return {
        str(node.args[0]): prepared.get_submodule(node.target)
        for node in prepared.graph.nodes
        if node.op == "call_module"
    }


@pytest.mark.parametrize("name", ["fused, per channel", "moving average"])
@pytest.mark.parametrize("source", ["input", "weight", "linear"])
def test_one_fake_quantizer_that_saw_nothing_is_named(
    source: str, name: str, linear: Callable[..., GraphModule]
) -> None:
    prepared = linear(QAT[name])
    found = fake_quantizers(prepared)
    (node,) = (each for each in found if source in each)
    found[node].disable_observer()
    found[node].disable_fake_quant()
    prepared(torch.randn(2, 4))
    with pytest.raises(CalibrationError, match=f"quantizer of {node} saw no value: it is disabled"):
        convert(prepared)


def test_fake_quantizers_that_saw_nan_are_named(linear: Callable[..., GraphModule]) -> None:
    prepared = linear(QAT["moving average"])
    prepared(torch.randn(2, 4))
    fake_quantizers(prepared)["linear"].activation_post_process.max_val.fill_(torch.nan)
    with pytest.raises(CalibrationError, match="the fake quantizer of linear saw NaN"):
        convert(prepared)


def test_a_dynamic_activation_needs_no_batch_but_its_weight_does(
    linear: Callable[..., GraphModule],
) -> None:
    latest = pt2e.MovingAverageMinMaxObserver.with_args(averaging_constant=1)
    config = qat_config(PLAIN.with_args(observer=latest), FUSED, PER_TENSOR, dynamic=True)
    prepared = linear(config)
    with pytest.raises(CalibrationError, match="the fake quantizer of weight saw no value"):
        convert(prepared)
    found = fake_quantizers(prepared)
    (weight,) = (each for each in found if "weight" in each)
    found[weight](torch.randn(3, 4))
    converted = convert(prepared)
    assert "choose_qparams" in "".join(str(node.target) for node in converted.graph.nodes)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("mode", ["static", "dynamic", "qat"])
def test_torchaos_own_convert_raises_too_for_configs_of_this_project(
    mode: str, per_channel: bool, capture: Callable[..., GraphModule], registry: Registry
) -> None:
    config = specs.config(
        is_qat=mode == "qat", is_dynamic=mode == "dynamic", per_channel=per_channel
    )
    quantizer = get_quantizer("toy", config, registry=registry)
    prepare = prepare_qat_pt2e if mode == "qat" else prepare_pt2e
    prepared = prepare(capture(nn.Linear(4, 3), torch.zeros(2, 4)), quantizer)
    with pytest.raises(CalibrationError, match="an observer saw no value"):
        convert_pt2e(prepared)


def test_an_affine_observer_that_saw_nothing_is_named(
    capture: Callable[..., GraphModule], registry: Registry
) -> None:
    """Group-wise weights, whose observers have no range at all before the first value."""
    grouped = AFFINE_RANGED[0].with_args(
        mapping_type=MappingType.SYMMETRIC,
        target_dtype=torch.int8,
        granularity=PerGroup(2),
        eps=2**-12,
    )
    weight = QuantizationSpec(torch.int8, grouped, quant_min=-8, quant_max=7)
    placeholder = QuantizationSpec(
        torch.int8,
        pt2e.PlaceholderObserver,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        is_dynamic=True,
    )
    config = QuantizationConfig(placeholder, None, weight, None)
    quantizer = get_quantizer("toy", config, registry=registry)
    prepared = prepare_pt2e(capture(nn.Linear(4, 3), torch.zeros(2, 4)), quantizer)
    with pytest.raises(CalibrationError, match="the observer of weight saw no value"):
        convert(prepared)
