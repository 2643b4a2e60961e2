"""Pins that a recipe gives the same program without data, and refuses another model."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from following import followed, made, plain_registry
from quantizing import Net, TwoLinears, X, batches
from safetensors.torch import load_file
from torch import Tensor, nn

import qreg
from qreg import Algorithm, Calibration, Candidate, Change, Registry
from qreg.algorithms import stock
from qreg.configs.factory import REDUCED_INT8, config
from qreg.errors import (
    AlgorithmError,
    CalibrationError,
    ConfigError,
    RecipeError,
    RecipeWarning,
    UnknownCallError,
    UnknownNameError,
)
from qreg.graph.values import constant_at, value_of
from qreg.pipeline.score import Score

LINEAR, ADD = "aten.linear.default", "aten.add.Tensor"
WEIGHT, BIAS = 1, 2


@pytest.fixture(scope="module")
def plain(toy: ModuleType) -> Registry:
    return plain_registry(toy)


class Loop(nn.Module):
    """A linear layer in the body of a loop, whose observers are those of a nested graph."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        from torch._higher_order_ops.while_loop import while_loop

        def body(count: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            return count + 1, self.fc(value)

        return while_loop(lambda i, _: i < 2, body, (torch.tensor(0), self.fc(x)))[1]


class Tied(nn.Module):
    """Two layers that share a weight, each with a separate bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()) + x  # type: ignore[no-any-return]


@pytest.mark.parametrize("model", [TwoLinears, Net, Tied, Loop])
@pytest.mark.parametrize(
    "name", ["minmax", pytest.param("histogram", marks=pytest.mark.slow), "dynamic"]
)
def test_the_program_is_the_same_without_data(
    model: type[nn.Module], name: str, plain: Registry, tmp_path: Path
) -> None:
    result = made(plain, model(), config=name)
    result.recipe.save(tmp_path / "recipe.toml")
    again = followed(plain, tmp_path / "recipe.toml", model())
    assert again.program == result.program
    assert again.decisions == result.decisions
    assert again.recipe.digest == result.recipe.digest
    other = made(plain, model(), config=name, calibration=[3 * each for each in batches()])
    assert (other.program == result.program) == (name == "dynamic")  # the bytes tell apart


def tensor(candidate: Candidate, name: str, position: int) -> Tensor:
    (node,) = (each for each in candidate.model.graph.nodes if each.name == name)
    source = constant_at(node, position)
    assert source is not None
    return value_of(candidate.model, source).detach()


def rescaled(candidate: Candidate, calibration: Calibration) -> list[Change]:
    constants = {at: 2 * tensor(candidate, "linear", at) for at in (WEIGHT, BIAS)}
    return [Change("linear", constants=constants, scale=torch.full((1,), 0.5))]


def nudged(candidate: Candidate, calibration: Calibration) -> list[Change]:
    weight = tensor(candidate, "linear", WEIGHT) + 0.01
    ends = torch.tensor(-1.5), torch.tensor(2.5)
    return [Change("linear", constants={WEIGHT: weight}), Change("x", range=ends)]


def spared(candidate: Candidate, calibration: Calibration) -> list[Change]:
    return [Change("add", in_float="for a test")]


def corrected(candidate: Candidate, calibration: Calibration) -> list[Change]:
    return [Change("linear_1", constants={BIAS: tensor(candidate, "linear_1", BIAS) + 0.25})]


@pytest.fixture
def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change is kept, whatever it does to the outputs."""
    monkeypatch.setattr(Score, "improves", lambda *_: True)
    monkeypatch.setattr(Score, "worsens", lambda *_: False)


@pytest.mark.usefixtures("_kept")
def test_changes_of_every_stage_are_made_again_without_the_algorithms(
    plain: Registry, tmp_path: Path
) -> None:
    algorithms = [
        Algorithm("rescaled", "float", "for a test", rescaled),
        Algorithm("nudged", "prepared", "for a test", nudged),
        Algorithm("spared", "precision", "for a test", spared),
        Algorithm("corrected", "converted", "for a test", corrected),
    ]
    result = made(plain, algorithms=algorithms)
    assert [each.kept for each in result.algorithms] == [True] * 4
    result.recipe.save(tmp_path / "recipe.toml")
    again = followed(plain, tmp_path / "recipe.toml")
    assert again.program == result.program != made(plain).program
    steps = ["rescaled", "spared", "nudged", "corrected"]  # the float model is changed first
    assert [each.algorithm for each in again.algorithms] == steps
    assert again.recipe.digest == result.recipe.digest


@pytest.mark.usefixtures("_kept")
@pytest.mark.parametrize(
    ("stage", "run"), [("float", rescaled), ("prepared", nudged), ("converted", corrected)]
)
def test_a_constant_that_is_written_twice_is_stored_once(
    stage: Any, run: Any, plain: Registry, tmp_path: Path
) -> None:
    algorithms = [Algorithm(name, stage, "for a test", run) for name in ("first", "second")]
    result = made(plain, algorithms=algorithms)
    result.recipe.save(tmp_path / "recipe.toml")
    stored = load_file(tmp_path / "recipe.safetensors")
    written = [name.split("/")[1] for name in stored if "/constants/" in name]
    assert written == ["1", "1"] if stage == "float" else ["1"]
    again = followed(plain, tmp_path / "recipe.toml")
    assert again.program == result.program != made(plain, algorithms=algorithms[:1]).program
    assert torch.equal(again.reference(X), result.reference(X))
    assert again.recipe.digest == result.recipe.digest


@pytest.mark.usefixtures("_kept")
@pytest.mark.parametrize("model", [TwoLinears, Net])
def test_rounded_weights_are_stored_as_integers_without_loss(
    model: type[nn.Module], plain: Registry, tmp_path: Path
) -> None:
    asked = [stock.gptq()]
    result = made(plain, model(), algorithms=asked)
    result.recipe.save(tmp_path / "recipe.toml")
    stored = load_file(tmp_path / "recipe.safetensors")
    weights = {name: each for name, each in stored.items() if name.startswith("steps/")}
    assert {each.dtype for each in weights.values()} == {torch.int8}
    loaded = qreg.load_recipe(tmp_path / "recipe.toml").record
    record = result.recipe.record
    assert loaded is not None
    assert record is not None
    assert len(record.steps[0].changes) == len(weights)
    for one, other in zip(record.steps[0].changes, loaded.steps[0].changes, strict=True):
        bits = [each.constants[WEIGHT].view(torch.int32) for each in (one, other)]
        assert torch.equal(*bits)
    assert followed(plain, tmp_path / "recipe.toml", model()).program == result.program


def test_a_recipe_by_hand_means_the_same_as_arguments(plain: Registry, tmp_path: Path) -> None:
    path = tmp_path / "by_hand.toml"
    path.write_text(
        """
        backend = "plain"
        config = "minmax"
        [modules]
        second = "histogram"
        [operators]
        "aten.tanh.default" = "float"
        [[calls]]
        module = ""
        operator = "aten.add.Tensor"
        ordinal = 0
        config = "float"
        """
    )
    with pytest.raises(CalibrationError, match="needs calibration data"):
        followed(plain, path)
    quantizer = qreg.get_quantizer("plain", "minmax", registry=plain)
    quantizer.set_module_name("second", "histogram").set_operator("", ADD, 0, None)
    quantizer.set_operator_type("aten.tanh.default", None)
    result = made(plain, quantizer=quantizer)
    again = followed(plain, path, calibration=batches())
    assert again.program == result.program
    assert again.recipe.digest == result.recipe.digest
    assert qreg.load_recipe(path) == evolve(result.recipe, options={}, versions={}, record=None)


def test_a_config_by_value_is_written_out(plain: Registry, tmp_path: Path) -> None:
    small = config(weight=REDUCED_INT8, eps=2**-20)
    quantizer = qreg.get_quantizer("plain", small, registry=plain)
    quantizer.set_module_name("second", "minmax")
    result = made(plain, quantizer=quantizer)
    result.recipe.save(tmp_path / "recipe.toml")
    assert followed(plain, tmp_path / "recipe.toml").program == result.program
    text = (tmp_path / "recipe.toml").read_text()
    assert 'config = "custom"' in text
    assert "eps = 9.5367431640625e-07" in text


def test_what_cannot_be_written_is_an_error(plain: Registry) -> None:
    class Mine(qreg.observers.observers.HistogramObserver):  # type: ignore[misc]
        pass

    import dataclasses

    base = config()
    spec = dataclasses.replace(base.input_activation, observer_or_fake_quant_ctr=Mine)
    by_value = dataclasses.replace(base, input_activation=spec)
    with pytest.raises(ConfigError, match="the observer of its input_activation is Mine"):
        _ = made(plain, config=by_value).recipe
    quantizer = qreg.get_quantizer("plain", registry=plain).set_filter_function(lambda _: True)
    with pytest.raises(ConfigError, match="filter function"):
        _ = made(plain, quantizer=quantizer).recipe


def other_weight() -> nn.Module:
    model = TwoLinears()
    model.second.weight.data[0, 0] += 1e-6
    return model


class OtherOperator(TwoLinears):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).sigmoid()) + x  # type: ignore[no-any-return]


class More(TwoLinears):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).exp()


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (other_weight, r"its constant 'second.weight' has other values, or another shape"),
        (Net, "it lacks the constant 'first.bias'"),
        (OtherOperator, r"operator 1 is 'sigmoid' .* \(expected 'tanh' \(aten.tanh.default\)\)"),
        (More, r"operator 4 is 'exp' \(aten.exp.default\) \(expected missing\)"),
    ],
)
def test_a_model_that_differs_is_an_error_that_says_where(
    model: Any, where: str, plain: Registry
) -> None:
    recipe = made(plain).recipe
    with pytest.raises(RecipeError, match=where):
        followed(plain, recipe, model())


def test_other_versions_are_a_warning_with_what_may_change(plain: Registry) -> None:
    recipe = made(plain).recipe
    old = evolve(recipe, versions={**recipe.versions, "torch": "2.12.0", "a-runtime": "1.0"})
    with pytest.warns(RecipeWarning) as warned:
        followed(plain, old)
    message = str(warned[0].message)
    assert "torch 2.12.0 (2.13" in message
    assert "the exported graph and the folded constants may differ" in message
    assert "a-runtime 1.0 (none is installed): how the program is lowered may differ" in message
    with pytest.raises(RecipeError, match=r"\[versions\] torch is 'new' \(expected a version\)"):
        followed(plain, evolve(recipe, versions={"torch": "new"}))


@pytest.mark.parametrize(
    "options",
    [
        {"config": "histogram"},
        {"algorithms": "auto"},
        {"options": {"level": 2}},
        {"backend": "toy"},
    ],
)
def test_a_recipe_is_not_combined_with_what_it_replaces(
    options: dict[str, Any], plain: Registry
) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name}: a recipe has its own"):
        followed(plain, made(plain).recipe, **options)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"backend": "plane"}, UnknownNameError, "Did you mean 'plain'"),
        ({"config": "minmx"}, UnknownNameError, "Did you mean 'minmax'"),
        ({"config": "qat"}, ConfigError, "a QAT config needs training"),
        ({"modules": {"first": "smal"}, "configs": {"small": {}}}, UnknownNameError, "'small'"),
        ({"configs": {"minmax": {}}}, RecipeError, "is a config of backend 'plain'"),
        ({"calls": {("first", LINEAR, -1): None}}, ConfigError, "expected an integer from 0"),
        ({"calls": {"first": None}}, RecipeError, "a value has another type than its field"),
        ({"options": 3}, RecipeError, "a value has another type than its field"),
        ({"modules": {"first": 3}}, RecipeError, r"\[modules\]: first is 3"),
        ({"seed": "x"}, RecipeError, "the recipe: seed is 'x'"),
        ({"allow_float": "no"}, RecipeError, "expected true or false"),
        ({"modules": {"secnd": None}}, LookupError, "Near: second"),
        ({"operators": {"aten.ad.Tensor": None}}, ConfigError, r"near: 'aten.add.Tensor'"),
        ({"calls": {("first", LINEAR, 1): None}}, UnknownCallError, "Near: call 0 of"),
        ({"options": {"levl": 1}}, UnknownNameError, "unknown option"),
        ({"algorithms": ("smoth",)}, UnknownNameError, "unknown algorithm 'smoth'"),
    ],
)
def test_an_unknown_name_is_an_error_with_near_names(
    fields: dict[str, Any], error: Any, message: str, plain: Registry
) -> None:
    recipe = evolve(made(plain).recipe, record=None, **fields)
    with pytest.raises(error, match=message):
        followed(plain, recipe, calibration=batches())


def test_calibration_data_next_to_the_values_only_verifies(registry: Registry) -> None:
    result = qreg.quantize(
        TwoLinears(), batches()[0], backend="toy", calibration=batches(), registry=registry
    )
    other = [3 * each for each in batches(6)]
    again = qreg.quantize(
        TwoLinears(), other[0], recipe=result.recipe, calibration=other, registry=registry
    )
    assert torch.equal(again.run(other[0]), result.run(other[0]))
    assert len(again.samples) == 4
    assert again.verification is not None


def test_explain_reports_on_the_program_of_a_recipe(registry: Registry) -> None:
    result = qreg.quantize(
        TwoLinears(), batches()[0], backend="toy", calibration=batches(), registry=registry
    )
    given = {"recipe": result.recipe, "registry": registry, "progress": False}
    report = qreg.explain(TwoLinears(), batches()[0], numerics=True, **given)
    assert all(each.sqnr is not None for each in report.operators)  # of the example inputs
    unmeasured = [evolve(each, sqnr=None, largest_difference=None) for each in report.operators]
    assert unmeasured == list(result.report.operators)
    assert report.provenance.data_sha256 == result.report.provenance.data_sha256 is not None
    with pytest.raises(ConfigError, match="config: a recipe has its own"):
        qreg.explain(TwoLinears(), batches()[0], config="dynamic", **given)


def test_options_and_the_seed_are_part_of_it(toy: ModuleType, tmp_path: Path) -> None:
    from following import OPTIONS

    registry = plain_registry(toy, options=OPTIONS)
    recipe = made(registry, options={"level": 3}).recipe
    assert recipe.options == {"level": 3}
    drawn: list[float] = []

    def drawing(candidate: Candidate, calibration: Calibration) -> list[Change]:
        drawn.append(torch.rand(1).item())
        return []

    once = Algorithm("drawing", "prepared", "for a test", drawing)
    before = torch.random.get_rng_state()
    made(registry, algorithms=[once])
    torch.manual_seed(5)
    made(registry, algorithms=[once])
    torch.random.set_rng_state(before)
    assert drawn[0] == drawn[1]
    with pytest.raises((AlgorithmError, UnknownNameError), match="drawing"):
        followed(registry, evolve(recipe, algorithms=("drawing",), record=None), calibration=[1])
