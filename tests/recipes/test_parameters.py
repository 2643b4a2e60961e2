"""Pins that a recipe has the parameters of algorithms, and that they are checked and used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import evolve
from following import followed, made, plain_registry
from quantizing import batches

import qreg
from qreg import Algorithm, Calibration, Candidate, Change, Recipe, Registry
from qreg.algorithms import stock
from qreg.errors import AlgorithmError, RecipeError, UnknownNameError
from qreg.graph.values import constant_at, value_of
from qreg.pipeline.score import Score

BIAS = 2


def shift(by: float = 0.5, times: int = 1, channels: Sequence[int] = (0,)) -> Algorithm:
    """Add to some channels of the first bias, for a test."""
    if times < 0:
        raise ValueError("times is negative")

    def run(candidate: Candidate, calibration: Calibration) -> list[Change]:
        (node,) = (each for each in candidate.model.graph.nodes if each.name == "linear")
        source = constant_at(node, BIAS)
        assert source is not None
        bias = value_of(candidate.model, source).detach().clone()
        bias[list(channels)] += by * times
        return [Change("linear", constants={BIAS: bias})]

    parameters = {"by": by, "times": times, "channels": channels}
    return Algorithm("shift", "prepared", "for a test", run, parameters=parameters, make=shift)


class Plugin:
    @qreg.hookimpl
    def qreg_algorithms(self) -> Iterable[Algorithm]:
        yield shift()


@pytest.fixture(scope="module")
def plain(toy: ModuleType) -> Registry:
    return plain_registry(toy, others={"mine": Plugin()})


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change is kept, whatever it does to the outputs."""
    monkeypatch.setattr(Score, "improves", lambda *_: True)
    monkeypatch.setattr(Score, "worsens", lambda *_: False)


def test_a_recipe_has_the_parameters_that_are_not_the_default(
    plain: Registry, tmp_path: Path
) -> None:
    asked = shift(by=2, channels=[0, 1])
    result = made(plain, algorithms=[asked])
    path = tmp_path / "recipe.toml"
    result.recipe.save(path)
    text = path.read_text()
    assert 'algorithms = [{name = "shift", by = 2, channels = [0, 1]}]\nseed = 0\n' in text
    assert followed(plain, path).program == result.program  # the values alone
    path.write_text(text.partition("[record]")[0])  # the intent alone
    again = followed(plain, path, calibration=batches())
    assert again.program == result.program != made(plain, algorithms=["shift"]).program
    assert evolve(again.recipe, algorithms=result.recipe.algorithms) == result.recipe
    (table,) = again.recipe.algorithms
    assert table == {"name": "shift", "by": 2.0, "channels": (0, 1)}


@pytest.mark.parametrize("asked", ["shift", shift(), {"name": "shift", "times": 1}])
def test_the_defaults_are_a_plain_name(asked: Any, plain: Registry) -> None:
    assert made(plain, algorithms=[asked]).recipe.algorithms == ("shift",)


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"tims": 2}, UnknownNameError, "parameter of algorithm 'shift': 'tims'. .*mean 'times'"),
        ({"times": 1.5}, AlgorithmError, r"'times' is 1.5 \(expected an integer\)"),
        ({"times": True}, AlgorithmError, r"'times' is True \(expected an integer\)"),
        ({"by": "2"}, AlgorithmError, r"'by' is '2' \(expected a number\)"),
        ({"channels": 1}, AlgorithmError, r"'channels' is 1 \(expected an array\)"),
        ({"channels": ("a",)}, AlgorithmError, r"'channels': a value is 'a' \(expected an integer"),
        ({"times": -1}, AlgorithmError, "does not accept .*times is negative"),
    ],
)
def test_a_parameter_by_hand_has_clear_errors(
    table: dict[str, Any], error: Any, message: str, plain: Registry
) -> None:
    recipe = Recipe("plain", algorithms=({"name": "shift", **table},))
    with pytest.raises(error, match=message):
        followed(plain, recipe, calibration=batches())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[{by = 1.0}]", r"algorithms: 0: it lacks name"),
        ("[{name = 1}]", r"algorithms: 0: name is 1 \(expected a string\)"),
        ("['a', {name = 'shift', by = {a = 1}}]", r"algorithms: 1: by is .*expected a string or"),
        ("[{name = 'shift', channels = [[1]]}]", r"channels: 0 is \[1\]"),
    ],
)
def test_a_table_of_an_algorithm_is_checked(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f"backend = 'plain'\nalgorithms = {line}\n")
    with pytest.raises(RecipeError, match=message):
        Recipe.load(path)


def test_a_value_that_no_plugin_registers_is_said_to_be_one(plain: Registry) -> None:
    mine = evolve(shift(times=3), make=None)  # not what the plugin registers under this name
    result = made(plain, algorithms=[mine])
    (table,) = result.recipe.algorithms
    assert isinstance(table, dict)
    assert (table["in_process"], table["times"]) == (True, 3)
    assert followed(plain, result.recipe).program == result.program
    alone = evolve(result.recipe, record=None)
    with pytest.raises(AlgorithmError, match="no plugin registers it"):
        followed(plain, alone, calibration=batches())


@pytest.mark.parametrize("known", list(stock.qreg_algorithms()), ids=lambda each: each.name)
def test_the_algorithms_of_qreg_are_made_again_with_their_parameters(known: Algorithm) -> None:
    made_again = known.with_parameters(**known.parameters)
    assert made_again.is_variant_of(known)
    assert made_again.parameters == known.parameters
    assert made_again.run.args == known.run.args  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"by": None}, "'by' is None"), ({"by": [{}]}, "'by' is"), ({"name": "x"}, "named 'name'")],
)
def test_parameters_are_plain_values(parameters: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        evolve(shift(), parameters=parameters)


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("gptq", {"damping": 0.0}, "from 1e-09 to 1"),
        ("gptq", {"block": 0}, "1 or more"),
        ("adaround", {"steps": 0}, "1 or more"),
        ("smooth_quant", {"alphas": (0.5, math.nan)}, "from 0 to 1"),
        ("ranges", {"gains": [2]}, "from 0 to 1"),
        ("bias_correction", {"threshold": -1}, "0 or more"),
        ("mixed_precision", {"share": -0.5}, "0 or more"),
        ("mixed_precision", {"enough": math.nan}, "-inf or more"),
    ],
)
def test_a_number_that_means_nothing_is_an_error_before_the_model_is_prepared(
    name: str, given: dict[str, Any], wanted: str
) -> None:
    (found,) = (each for each in stock.qreg_algorithms() if each.name == name)
    with pytest.raises(AlgorithmError, match=rf"{name}': its parameter .* \(expected {wanted}\)"):
        found.with_parameters(**given)
