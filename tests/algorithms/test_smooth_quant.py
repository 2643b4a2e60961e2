"""Pins SmoothQuant and the outlier channels of sums against their formulas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from candidates import candidate, constant, exported, seen, written
from torch import Tensor, nn

import qreg
from qreg import Candidate, Change, Registry
from qreg.algorithms import smooth_quant, stock
from qreg.algorithms.changes import write
from qreg.errors import AlgorithmError
from qreg.graph.prepared import float_graph
from qreg.pipeline.calibrate import calibrate

WEIGHT, BIAS = 1, 2
GAIN, SHIFT = 2, 3  # of a layer norm
OPTIONS = {"alphas": (0.25, 0.5, 0.75), "threshold": 4.0}


def data(*shape: int, count: int = 3) -> list[Tensor]:
    return list(torch.randn(count, *shape, generator=torch.Generator().manual_seed(1)))


def prepared(registry: Registry, model: nn.Module, batches: list[Tensor]) -> Candidate:
    """Return a calibrated candidate of the toy backend, with the registry's Decisions."""
    quantizer = qreg.get_quantizer("toy", registry=registry)
    made = qreg.prepare(model.eval(), quantizer, (batches[0],))
    calibrate(made, batches, progress=False)
    backend = registry.backend("toy").value
    decisions, modes = quantizer.decisions, quantizer.modes
    return Candidate(made, float_graph(made), decisions, frozenset(), backend, modes)


class Attention(nn.Module):
    """A norm whose output two layers read, with two outlier channels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.q, self.k = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 6)
        with torch.no_grad():
            self.norm.weight[[2, 5]] = torch.tensor([60.0, 90.0])
            self.norm.bias.copy_(torch.randn(8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.norm(x)
        return self.q(y), self.k(y)


def scale_of(model: Attention, batches: list[Tensor], alpha: float) -> Tensor:
    """Equation 4 of the paper, with the weights of both layers."""
    largest = model.norm(torch.cat(batches)).abs().amax(0)
    weights = torch.cat([model.q.weight, model.k.weight]).abs().amax(0)
    return largest**alpha / weights ** (1 - alpha)


def test_the_scale_is_that_of_the_paper_and_shared(registry: Registry) -> None:
    model, batches = Attention(), data(5, 8)
    given = prepared(registry, model, batches)
    options = {**OPTIONS, "alphas": (0.5,)}
    found = list(smooth_quant.changes(given, seen(given.reference, batches), **options))
    changed, s = written(given.reference, found), scale_of(model, batches, 0.5)
    torch.testing.assert_close(constant(changed, "layer_norm", GAIN), model.norm.weight / s)
    torch.testing.assert_close(constant(changed, "layer_norm", SHIFT), model.norm.bias / s)
    torch.testing.assert_close(constant(changed, "linear", WEIGHT), model.q.weight * s)
    torch.testing.assert_close(constant(changed, "linear_1", WEIGHT), model.k.weight * s)
    for one, other in zip(changed(batches[0]), model(batches[0]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def rounded(x: Tensor, low: float, high: float, lowest: int, highest: int) -> Tensor:
    step = (high - low) / (highest - lowest)
    zero = lowest - round(low / step)
    return (((x / step).round() + zero).clamp(lowest, highest) - zero) * step


def test_alpha_is_the_one_with_the_least_error(registry: Registry) -> None:
    model, batches = Attention(), data(5, 8)
    given = prepared(registry, model, batches)
    calibration = seen(given.reference, batches)
    found = list(smooth_quant.changes(given, calibration, **OPTIONS))
    gain = constant(written(given.reference, found), "layer_norm", GAIN)
    x = model.norm(torch.cat(batches)).detach()

    def error(s: Tensor) -> float:
        total, y = 0.0, x / s
        y = rounded(y, min(float(y.min()), 0.0), max(float(y.max()), 0.0), -128, 127)
        for layer in (model.q, model.k):
            weight = layer.weight.detach() * s
            largest = float(weight.abs().max())
            step = largest / 127
            weight = (weight / step).round().clamp(-127, 127) * step
            wanted = x @ layer.weight.detach().T
            total += float((y @ weight.T - wanted).square().sum() / wanted.square().sum())
        return total

    alphas = OPTIONS["alphas"]
    assert isinstance(alphas, tuple)
    errors = {each: error(scale_of(model, batches, each).detach()) for each in alphas}
    best = min(errors, key=errors.__getitem__)
    assert errors[best] < error(torch.ones(8)) / 2
    torch.testing.assert_close(gain, model.norm.weight / scale_of(model, batches, best))


class Scaled(nn.Module):
    """An RMS norm in Python, or a product with a constant and a sum with one."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.gain = kind, nn.Parameter(torch.rand(8) + 0.5)
        self.shift = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "rms":
            return self.gain * (x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt())
        return x.tanh() * self.gain + self.shift


@pytest.mark.parametrize(
    ("make", "places"),
    [
        (lambda: nn.LayerNorm(8), ["layer_norm", "linear"]),
        (lambda: nn.RMSNorm(8), ["linear", "rms_norm"]),
        (lambda: Scaled("rms"), ["linear", "mul"]),
        (lambda: Scaled("product"), ["add", "linear", "mul"]),
        (lambda: nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Dropout()), ["linear"]),
        (lambda: nn.Sequential(nn.Tanh(), nn.BatchNorm1d(8)), ["add", "linear", "mul"]),
        (lambda: nn.Sequential(nn.Unflatten(1, (1, 8)), nn.GroupNorm(1, 1), nn.Flatten(1)), []),
    ],
)
def test_scales_move_into_what_produces_the_value(
    registry: Registry, make: Callable[[], nn.Module], places: list[str]
) -> None:
    torch.manual_seed(0)
    batches = data(5, 8)
    for batch in batches:
        batch[:, 3] *= 50
    model = nn.Sequential(make(), nn.Linear(8, 8)).eval()
    if isinstance(model[0], nn.Sequential) and isinstance(model[0][1], nn.BatchNorm1d):
        model[0][1].running_var = torch.rand(8) + 0.01
    given = prepared(registry, model, batches)
    options = {**OPTIONS, "alphas": (0.5,)}
    found = list(smooth_quant.changes(given, seen(given.reference, batches), **options))
    changed = written(given.reference, found)
    operators = [each.node.replace("_tensor", "") for each in found]
    assert sorted({each.rstrip("_0123456789") for each in operators}) == sorted(places)
    for x in batches:
        torch.testing.assert_close(changed(x), model(x), rtol=1e-4, atol=1e-4)


class Block(nn.Module):
    """A feed-forward block of a transformer: a sum, and a norm of it."""

    def __init__(self, planted: float = 100.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down, self.norm = nn.Linear(16, 32), nn.Linear(32, 16), nn.LayerNorm(16)
        self.head = nn.Linear(16, 4)
        with torch.no_grad():
            self.down.weight[3] *= planted
            self.down.bias[3] = planted
            self.norm.weight[3] /= planted
            self.norm.weight.mul_(planted / 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x + self.down(self.up(x).tanh())))  # type: ignore[no-any-return]


def test_rows_of_outliers_are_divided_by_powers_of_two_and_restored(registry: Registry) -> None:
    model, batches = Block(), data(5, 16)
    given = prepared(registry, model, batches)
    found = list(
        smooth_quant.changes(given, seen(given.reference, batches), alphas=(), threshold=4.0)
    )
    largest = model.down(model.up(torch.cat(batches)).tanh()).detach().abs().amax(0)
    limit = 4.0 * float(largest.median())
    t = torch.ones(16)
    while float(largest[3] / t[3]) > limit:
        t[3] *= 2
    assert t[3] > 8
    scales = [each for each in found if each.scale is not None]
    assert [each.node for each in scales] == ["linear_1"]
    assert scales[0].scale is not None
    assert torch.equal(scales[0].scale, t)
    changed = written(given.reference, found)
    assert torch.equal(
        constant(changed, "linear_1", WEIGHT), model.down.weight.detach() / t[:, None]
    )
    assert torch.equal(constant(changed, "linear_1", BIAS), model.down.bias.detach() / t)
    assert {each.node for each in found if each.in_float} == {"add", "layer_norm"}
    assert torch.equal(changed(batches[0]), given.reference(batches[0]))


def test_outliers_of_a_sum_are_not_rounded_with_the_others(registry: Registry) -> None:
    model, batches = Block(), data(16, 16, count=8)
    options = {"backend": "toy", "registry": registry, "calibration": batches, "progress": False}
    plain = qreg.quantize(Block(planted=1.0), batches[0], **options)
    before = qreg.quantize(model, batches[0], **options)
    after = qreg.quantize(model, batches[0], algorithms=[stock.smooth_quant()], **options)
    (outcome,) = after.algorithms
    assert outcome.kept
    ratios = [
        _sqnr(each, one) for each, one in ((plain, Block(1.0)), (before, model), (after, model))
    ]
    assert ratios[1] < ratios[0] - 6
    assert ratios[2] - ratios[1] > 0.95 * (ratios[0] - ratios[1])
    kinds = {each.node: each.status for each in after.decisions}
    assert kinds["linear_1"] == "annotated"
    assert kinds["add"] == kinds["layer_norm"] == "float"


@torch.no_grad()
def _sqnr(result: qreg.Result, model: nn.Module) -> float:
    batches = data(16, 16, count=8)
    wanted = torch.cat([model(each) for each in batches])
    got = torch.cat([result.run(each) for each in batches])
    return float(10 * torch.log10(wanted.square().sum() / (got - wanted).square().sum()))


class Other(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.norm, self.fc = kind, nn.LayerNorm(8), nn.Linear(8, 8)
        self.rnn = nn.GRU(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        if self.kind == "gru":
            return self.fc(self.rnn(y)[0].tanh())  # type: ignore[no-any-return]
        if self.kind == "twice":
            return self.fc(self.fc(y).tanh())  # type: ignore[no-any-return]
        return self.fc(y) * y  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["product", "twice", "gru"])
def test_values_with_other_readers_and_shared_weights_stay(registry: Registry, kind: str) -> None:
    batches = data(2, 5, 8)
    given = prepared(registry, Other(kind), batches)
    assert smooth_quant.applies(given) == (
        "no linear layer reads what a norm or another layer produces for linear layers alone"
    )
    assert not list(smooth_quant.changes(given, seen(given.reference, batches), **OPTIONS))


def test_scopes_in_float_stay(registry: Registry) -> None:
    graph = exported(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)), torch.ones(1, 4))
    assert smooth_quant.applies(candidate(registry, graph)) is None
    for kept in ("linear", "layer_norm"):
        assert smooth_quant.applies(candidate(registry, graph, frozenset({kept})))


def test_an_activation_that_an_operator_in_float_reads_too_is_smoothed(
    registry: Registry, tmp_path: Path
) -> None:
    """The operator in float reads the activation as it was, and its weight stays."""
    model, batches = Attention(), data(4, 8, count=8)
    quantizer = qreg.get_quantizer("toy", registry=registry).set_module_name("k", None)
    options = {"quantizer": quantizer, "calibration": batches, "progress": False}
    before, after = (
        qreg.quantize(model, batches[0], algorithms=algorithms, **options)
        for algorithms in ((), (stock.smooth_quant(),))
    )
    (outcome,) = after.algorithms
    assert outcome.kept
    assert outcome.operators == ("layer_norm", "linear")
    with torch.no_grad():
        wanted = model(batches[0])
        found = [each.run(batches[0]) for each in (before, after)]
    torch.testing.assert_close(found[1][1], wanted[1], rtol=1e-5, atol=1e-4)  # of k
    noise = [float((each[0] - wanted[0]).square().sum()) for each in found]
    assert noise[1] < noise[0] / 2
    kinds = {each.name: each.status for each in after.report.operators}
    assert (kinds["linear"], kinds["linear_1"]) == ("annotated", "float")
    after.recipe.save(tmp_path / "recipe.toml")
    again = qreg.quantize(
        model, batches[0], recipe=tmp_path / "recipe.toml", registry=registry, progress=False
    )
    assert again.reference.code == after.reference.code
    for one, other in zip(again.run(batches[0]), after.run(batches[0]), strict=True):
        assert torch.equal(one, other)


def test_a_scale_for_an_operator_that_does_not_read_it_is_an_error(registry: Registry) -> None:
    graph = exported(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), torch.ones(1, 4))
    change = Change("linear", scale=torch.ones(4), readers=("linear",))
    with pytest.raises(AlgorithmError, match="'linear' does not read 'linear'"):
        write(graph, [change], "float")
