"""Pins the noise at the outputs of each pattern alone, against hands and brute force."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg import Registry, Result, get_quantizer
from qreg.analysis.sensitivity import sensitivity
from qreg.errors import InputError

SAMPLES = [torch.tensor([[value]]) for value in (0.9, -0.4, 0.33, 0.777)]
FIRST, SECOND = torch.tensor([[0.7], [-0.31]]), torch.tensor([[-1.3, 0.45]])


class Two(nn.Module):
    """Two linear layers, from one value over two to one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)
        self.first.weight, self.second.weight = nn.Parameter(FIRST), nn.Parameter(SECOND)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def quantized(
    model: nn.Module, samples: Sequence[Tensor], registry: Registry, **options: Any
) -> Result:
    options = {"backend": "toy", "calibration": samples, "verify": False, **options}
    return qreg.quantize(model.eval(), samples[0], registry=registry, progress=False, **options)


def found(result: Result, **options: Any) -> dict[str, float | None]:
    graphs = result.reference, result.converted
    noise = sensitivity(*graphs, result.decisions, result.samples, **options)
    return {each.pattern[0]: each.sqnr for each in noise}


def by_module(result: Result) -> dict[str, float | None]:
    modules = {each.node: each.module for each in result.decisions}
    return {modules[name]: value for name, value in found(result).items()}


def rounded(values: Tensor, seen: Tensor) -> Tensor:
    """Round an activation by the range that was seen: int8, affine, per tensor."""
    low, high = min(float(seen.min()), 0.0), max(float(seen.max()), 0.0)
    scale = (high - low) / 255
    zero = round(-low / scale) - 128
    return (((values / scale).round() + zero).clamp(-128, 127) - zero) * scale


def rounded_weight(values: Tensor) -> Tensor:
    """Round a weight: int8, symmetric, per tensor."""
    scale = float(values.abs().max()) / 127
    return (values / scale).round() * scale


def decibels(signal: Tensor, noise: Tensor) -> float:
    return 10 * math.log10(float(signal.square().sum() / noise.square().sum()))


def by_hand() -> dict[str, float]:
    """In double precision; the layers are linear, so that the first order is all there is."""
    x = torch.cat(SAMPLES).double()
    first, second = FIRST.double().T, SECOND.double().T
    hidden, output = x @ first, x @ first @ second
    alone = rounded(rounded(x, x) @ rounded_weight(first), hidden) @ second
    late = rounded(rounded(hidden, hidden) @ rounded_weight(second), output)
    return {
        "linear": decibels(output, alone - output),
        "linear_1": decibels(output, late - output),
    }


def test_two_layers_have_the_noise_that_a_hand_computes(registry: Registry) -> None:
    assert found(quantized(Two(), SAMPLES, registry)) == pytest.approx(by_hand(), abs=0.01)


def test_each_output_counts_by_its_own_signal(registry: Registry) -> None:
    """An output a thousand times as large does not hide the other."""

    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = Two(), Two()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.one(x), 1000.0 * self.other(x)

    wanted = {name: value + 10 * math.log10(2) for name, value in by_hand().items()}
    noise = found(quantized(Apart(), SAMPLES, registry))
    assert noise["linear"] == pytest.approx(wanted["linear"], abs=0.01)
    assert noise["linear_2"] == pytest.approx(wanted["linear"], abs=0.01)
    assert noise["linear_3"] == pytest.approx(wanted["linear_1"], abs=0.01)


def test_ranges_of_each_input_are_computed_from_float(registry: Registry) -> None:
    """A dynamic config rounds inputs and weights; of one value, the range is exact at its end."""
    samples = [torch.tensor([[value, -0.37 * value]]) for value in (0.9, -0.4, 0.33, 0.777)]
    model = nn.Linear(2, 1, bias=False)
    model.weight = nn.Parameter(SECOND)
    output = torch.cat(samples).double() @ SECOND.double().T
    noisy = [rounded(x.double(), x) @ rounded_weight(SECOND.double()).T for x in samples]
    noise = found(quantized(model, samples, registry, config="dynamic"))
    assert noise["linear"] == pytest.approx(decibels(output, torch.cat(noisy) - output), abs=0.05)


class Residual(nn.Module):
    """Blocks of unlike widths, each of which is a scope of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(6, 16)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 16))
            for width in (4, 8, 16, 32, 64)
        )
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).tanh()
        for block in self.blocks:
            x = x * 0.5 + block(x).sigmoid()
        return self.head(self.norm(x))


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, list[Tensor]]:
    """A net that has learned the signs of sums, with batches of 16."""
    model, generator = Residual(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        x = torch.randn(64, 6, generator=generator)
        wanted = x.unfold(1, 2, 1).sum(2).sign()
        loss = (model(x) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5
    return model, [torch.randn(16, 6, generator=generator) for _ in range(4)]


def alone(model: nn.Module, samples: list[Tensor], modules: set[str], registry: Registry) -> float:
    """Quantize the modules of a pattern by scopes, and run the converted model."""
    quantizer = get_quantizer("toy", None, registry=registry)
    for module in modules:
        quantizer.set_module_name(module, "minmax")
    result = quantized(model, samples, registry, quantizer=quantizer)
    with torch.no_grad():
        wanted = torch.cat([model(x) for x in samples])
        got = torch.cat([result.converted(x) for x in samples])
    return decibels(wanted, got - wanted)


def ranks(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).argsort().argsort().double()


def test_a_trained_net_is_ordered_as_by_brute_force(
    trained: tuple[nn.Module, list[Tensor]], registry: Registry
) -> None:
    model, samples = trained
    result = quantized(model, samples, registry)
    modules: dict[str, set[str]] = {}
    for each in result.decisions:
        if each.pattern and each.module:
            modules.setdefault(each.pattern[0], set()).add(each.module)
    noise = found(result)
    pairs = [
        (noise[name] or 0.0, alone(model, samples, places, registry))
        for name, places in modules.items()
    ]
    estimated, measured = zip(*pairs, strict=True)
    assert len(pairs) == 12
    spearman = torch.corrcoef(torch.stack([ranks(estimated), ranks(measured)]))[0, 1]
    assert spearman >= 0.9
    assert max(abs(one - other) for one, other in pairs) < 3
    assert found(result) == noise


def test_a_pattern_that_shares_qparams_adds_nothing(registry: Registry) -> None:
    result = quantized(Sum(), normal(3, 4), registry)
    shared = [each.node for each in result.decisions if each.status == "shared"]
    assert shared == ["relu"]
    assert found(result)["relu"] == math.inf


class Sum(nn.Module):
    """A relu that reads a sum, so that it is a pattern by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + x).relu()


class Choice(nn.Module):
    """One layer decides by ``argmax`` alone, which has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.value, self.choice = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.value(x)[torch.arange(2), self.choice(x).argmax(-1)]


def normal(*shape: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(*shape, generator=generator) for _ in range(4)]


def test_what_no_gradient_reaches_is_not_known(registry: Registry) -> None:
    noise = found(quantized(Choice(), normal(2, 4), registry))
    assert noise["linear_1"] is None
    assert noise["linear"] is not None
    report = qreg.explain(
        Choice(),
        normal(2, 4)[0],
        backend="toy",
        calibration=normal(2, 4),
        registry=registry,
        sensitivity=True,
        verify=False,
    )
    assert report.notes == ("sensitivity: no gradient of the outputs reaches linear_1",)
    assert [each.pattern for each in report.sensitivity] == [("linear",)]


def test_without_a_floating_point_output_it_is_an_error(registry: Registry) -> None:
    class Best(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).argmax(-1)

    with pytest.raises(InputError, match="no floating-point output"):
        found(quantized(Best(), normal(2, 4), registry))


class Written(nn.Module):
    """In-place operators, ``detach``, ``no_grad`` and a buffer that is written to."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = (nn.Linear(4, 4) for _ in range(3))
        self.register_buffer("seen", torch.zeros(4))
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        if not self.in_place:
            y = self.first(x).sigmoid()
            y = y * 2 + y
            return self.head(self.second(y).exp() * 2)
        y = self.first(x).sigmoid_()
        self.seen.add_(y.mean(0))
        z = y * 2
        z += y.detach()
        with torch.no_grad():
            z = self.second(z).exp_()
        z.mul_(2)
        return self.head(z)


def test_writing_in_place_changes_nothing(registry: Registry) -> None:
    plain = quantized(Written(False), normal(3, 4), registry)
    result = quantized(Written(True), normal(3, 4), registry)
    before = result.samples[0][0].clone()
    state = result.reference.get_buffer("seen").clone()
    wanted, noise = by_module(plain), by_module(result)
    assert {"first", "second", "head"} <= noise.keys()
    for module in ("first", "second", "head"):
        assert noise[module] == pytest.approx(wanted[module], abs=0.2), module
    assert torch.equal(result.samples[0][0], before)
    assert torch.equal(result.reference.get_buffer("seen"), state)


def test_more_projections_are_closer_to_brute_force(
    trained: tuple[nn.Module, list[Tensor]], registry: Registry
) -> None:
    model, samples = trained
    result = quantized(model, samples, registry)
    exact = found(result, projections=64)
    error = {
        count: max(abs((value or 0.0) - (exact[name] or 0.0)) for name, value in noise.items())
        for count in (1, 8)
        for noise in [found(result, projections=count)]
    }
    assert error[8] < error[1]
