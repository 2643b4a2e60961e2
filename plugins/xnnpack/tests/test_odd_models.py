"""Models that are put together in odd ways: under every config the program loads and is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import pytest
import torch
from cases_odd_models import IMAGE, MODELS, ROW, Call, With, parameter
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

import qreg

FLOORS = {
    "int8_static_per_channel": 35,
    "int8_static_per_tensor": 35,
    "int8_dynamic_per_channel": 25,
}
PARTS = 6


class SideBySide(nn.Module):
    """Models of the table as one, each with inputs and outputs."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = names
        self.models = nn.ModuleList(MODELS[name][0] for name in names)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [shape for name in self.names for shape in MODELS[name][1]]

    def forward(self, *inputs: Tensor) -> list[Any]:
        left = iter(inputs)
        counts = [len(MODELS[name][1]) for name in self.names]
        return [model(*islice(left, n)) for model, n in zip(self.models, counts, strict=True)]

    def outputs(self, batch: tuple[Tensor, ...]) -> list[str]:
        """The name of the model of each output."""
        found = self(*(tensor.clone() for tensor in batch))
        named = zip(self.names, found, strict=True)
        return [name for name, value in named for _ in tree_leaves(value)]


SOMETIMES = "int8_static_per_tensor"  # that differs in the scales of weights alone
CONFIGS = [
    pytest.param(each, marks=pytest.mark.slow if each == SOMETIMES else ()) for each in FLOORS
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_programs_load_and_are_right(part: int, config: str) -> None:
    names = list(MODELS)[part::PARTS]
    assert wrong(names, config) == []


def wrong(names: Sequence[str], config: str) -> list[str]:
    """What is wrong with models, side by side as one: this lowers in half the time."""
    together = SideBySide(names)
    torch.manual_seed(0)
    batches = [tuple(map(torch.randn, together.shapes)) for _ in range(4)]
    before = [tensor.clone() for batch in batches for tensor in batch]
    options = {"config": config, "allow_float": True}
    try:
        result = qreg.quantize(together.eval(), batches[0], calibration=batches, **options)
    except Exception as problem:  # of any library: its model has to be named
        alone = [each for name in names for each in wrong([name], config)] if names[1:] else []
        return alone or [f"{', '.join(names)}: {type(problem).__name__}: {problem}"]
    after = [tensor for batch in batches for tensor in batch]
    assert all(map(torch.equal, before, after)), "calibration changed the caller's data"
    return [
        f"{name}: {near.sqnr:.1f} dB to the converted model, {far.sqnr:.1f} to float"
        for name, near, far in zip(
            together.outputs(batches[0]),
            result.verification.to_converted,
            result.verification.to_float,
            strict=True,
        )
        if not (near.sqnr > FLOORS[config] and far.sqnr > 20)
    ]


EXPECTED_INT8 = {
    "a weight that is computed": "linear",
    "a weight that is standardized": "conv",
    "convolution with same padding": "conv",
    "relu in place, then a view": "conv_relu",
}


@pytest.mark.parametrize("name", EXPECTED_INT8)
def test_what_can_run_in_int8_does(name: str) -> None:
    module, shapes = MODELS[name]
    batch = tuple(torch.randn(shape) for shape in shapes)
    result = qreg.quantize(module.eval(), batch, calibration=[batch])
    assert EXPECTED_INT8[name] in [decision.annotator for decision in result.decisions]


def test_a_dynamic_linear_over_the_channels_of_a_convolution_runs_in_int8() -> None:
    module, (shape,) = MODELS["a linear over the channels of a convolution"]
    result = qreg.quantize(module, (torch.randn(shape),), config="int8_dynamic_per_channel")
    assert result.decided["annotated"] == 2
    assert (result.lowered.delegates, result.lowered.outside) == (1, ())


LOWEST = torch.finfo(torch.float32).min
MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "by a factor": lambda keep: (1 - keep) * LOWEST,
    "by the factor of BERT": lambda keep: (1 - keep) * -10000.0,
    "by where": lambda keep: torch.where(keep > 0, 0.0, LOWEST),
    "by filling": lambda keep: torch.zeros(2, 1).masked_fill(keep == 0, -torch.inf),
    "by filling a bias": lambda keep: keep * 2 + (1 - keep).masked_fill(keep == 0, LOWEST)[:, :1],
}


@pytest.mark.parametrize("mask", MASKS)
def test_a_sum_with_a_mask_made_at_run_time_stays_float_and_the_rest_is_int8(mask: str) -> None:
    module = With(lambda m, x, keep: torch.softmax(m.linear(x) + MASKS[mask](keep), 0))
    batch = torch.randn(2, 8), torch.tensor([[1.0], [0.0]])
    result = qreg.quantize(module, batch, calibration=[batch])
    assert "linear" in [decision.annotator for decision in result.decisions]
    assert "the minus infinity of a mask" in " ".join(each.reason for each in result.decisions)
    assert result.verification.to_float[0].sqnr > 25


def test_a_mask_of_minus_infinity_that_is_an_input_names_its_place() -> None:
    module = With(lambda m, x, mask: m.linear(x) + mask)
    batch = torch.randn(2, 8), torch.tensor([[0.0], [LOWEST]])
    with pytest.raises(qreg.errors.CalibrationError, match="values too far apart for any scale"):
        qreg.quantize(module, batch, calibration=[batch])


def test_a_transposed_convolution_in_3d_is_named_before_it_fails_on_the_device() -> None:
    image = torch.randn(1, 2, 4, 4, 4)
    with pytest.raises(qreg.errors.LoweringError, match="no transposed convolution in 3d"):
        qreg.quantize(
            nn.ConvTranspose3d(2, 2, 3), (image,), calibration=[(image,)], allow_float=True
        )


def test_a_program_that_is_far_from_its_model_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from qreg_xnnpack import neighbours

    monkeypatch.setattr(neighbours, "ON_ONE_SET_OF_PARAMETERS", set())
    module = With(lambda m, x: m.conv(F.relu(F.max_pool2d(m.conv(x), 2))))
    batches = [(torch.randn(IMAGE),) for _ in range(4)]
    quantizer = qreg.get_quantizer("xnnpack")
    quantizer.set_filter_function(lambda node: "relu" not in str(node.target))
    with pytest.raises(qreg.errors.VerificationError, match="dB from the converted model"):
        qreg.quantize(module, batches[0], calibration=batches, quantizer=quantizer)


def test_a_convolution_with_same_padding_used_twice_has_a_bias_for_each_call() -> None:
    conv = nn.Conv2d(4, 4, 3, padding="same")
    batches = [(torch.randn(IMAGE),) for _ in range(4)]
    module = Call(lambda m, x: m.conv(m.conv(x) * 20), conv=conv)
    result = qreg.quantize(module, batches[0], calibration=batches)
    assert result.decided == {"annotated": 3}
    assert result.verification.to_converted[0].sqnr > 35


def test_a_clamp_by_a_dynamic_size_stays_float() -> None:
    batches = [(torch.randn(IMAGE) * 10,) for _ in range(4)]
    module = With(lambda m, x: m.conv(x).clamp(0, x.shape[2])).eval()
    shapes = ({2: torch.export.Dim("height", min=4, max=16)},)
    result = qreg.quantize(
        module, batches[0], calibration=batches, dynamic_shapes={"inputs": shapes}
    )
    (clamp,) = (each for each in result.decisions if each.operator == "aten.clamp.default")
    assert clamp.reason.startswith("its bounds are computed while the model runs")
    smaller = batches[0][0][:, :, :5]
    with torch.no_grad():
        wanted = module(smaller)
    assert float(result.run(smaller).max()) == float(wanted.max()) == 5


def test_positions_of_a_dynamic_size_stay_float() -> None:
    module = With(lambda m, x: F.interpolate(m.conv(x), scale_factor=2, mode="nearest-exact") * 2)
    batches = [(torch.randn(IMAGE),) for _ in range(4)]
    shapes = {"inputs": ({2: torch.export.Dim("height", min=4, max=16)},)}
    result = qreg.quantize(module, batches[0], calibration=batches, dynamic_shapes=shapes)
    positions = [each for each in result.decisions if "sizes alone" in each.reason]
    assert {each.operator for each in positions} == {"aten.add.Tensor", "aten.mul.Tensor"}
    smaller = batches[0][0][:, :, :5]
    with torch.no_grad():
        (wanted,) = (module(smaller),)
    error = wanted - torch.as_tensor(result.run(smaller))
    assert 10 * torch.log10(wanted.square().sum() / error.square().sum()) > 25


def test_an_index_is_computed_in_float() -> None:
    module = With(
        lambda m, x: m.linear(m.p[(m.linear(x).sigmoid() * 15 + 0.2).long()]), parameter(16, 8)
    )
    batches = [(torch.randn(ROW),) for _ in range(4)]
    result = qreg.quantize(module, batches[0], calibration=batches)
    reasons = {each.operator: each.reason for each in result.decisions}
    assert "only rounded to integers" in reasons["aten.mul.Tensor"]
    assert "only rounded to integers" in reasons["aten.add.Tensor"]


def test_a_half_open_clamp_of_another_float_type_is_left_as_it_computes() -> None:
    x = torch.linspace(-1, 1, 256, dtype=torch.half).reshape(IMAGE)
    module = Call(lambda m, x: x.clamp(min=0.1))
    result = qreg.quantize(module, x, calibration=[x], allow_float=True)
    assert torch.equal(result.run(x), x.clamp(min=0.1))


def test_a_cat_with_an_empty_tensor_stays_float() -> None:
    batches = [(torch.randn(ROW), torch.empty(0, 8)) for _ in range(4)]
    module = With(lambda m, x, y: m.linear(torch.cat([m.linear(x), y])))
    result = qreg.quantize(module, batches[0], calibration=batches)
    assert result.audit.defects == ()
    (cat,) = (each for each in result.decisions if each.operator == "aten.cat.default")
    assert "has no elements" in cat.reason
    assert result.verification.to_float[0].sqnr > 30


def test_an_operator_of_a_size_that_the_data_tells_stays_float_and_the_rest_is_int8() -> None:
    torch.manual_seed(0)
    model = With(lambda m, x: m.linear(m.linear(x)[x.sum(1) > 0]).relu()).eval()
    batches = [(torch.randn(16, 8),) for _ in range(8)]
    result = qreg.quantize(model, batches[0], calibration=batches, progress=False)
    found = {each.node: each for each in result.decisions}
    assert (found["linear"].status, found["linear_1"].status) == ("annotated", "float")
    assert found["linear_1"].reason.endswith(
        "has a data-dependent size, which the delegate does not support"
    )
    assert not result.audit.defects
    for (x,) in batches:
        wanted = model(x).detach()
        noise = (wanted - result.run(x)).square().sum()
        assert 10 * torch.log10(wanted.square().sum() / noise) > 25
