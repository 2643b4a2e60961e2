"""Pins --recipe and --save-recipe, and their mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import batches, failed, run, succeeded

import qreg


@pytest.fixture
def recipe(model: Path, data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    given = ("--backend", "toy", "--calibration", data, "--float", "aten.add.Tensor")
    succeeded("quantize", model, *given, "-o", tmp_path / "net.toy", "--save-recipe", path)
    return path


def test_a_recipe_needs_no_data(recipe: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "again.toy"
    assert "ran 1 input" in succeeded("quantize", model, "--recipe", recipe, "-o", output)
    (x,) = batches()[0]
    first, again = (torch.export.load(each).module()(x) for each in (tmp_path / "net.toy", output))
    assert torch.equal(first, again)
    assert qreg.load_recipe(recipe).operators == {"aten.add.Tensor": None}


@pytest.mark.parametrize(
    "option",
    [("--backend", "toy"), ("--config", "histogram"), ("--float", "fc"), ("--algorithms", "auto")],
)
def test_an_option_that_the_recipe_replaces_is_an_error(
    option: tuple[str, str], recipe: Path, model: Path
) -> None:
    message = failed("quantize", model, "--recipe", recipe, *option)
    assert f"{option[0]}: the recipe has its own (expected none)" in message


def test_mistakes_in_a_recipe_are_messages(model: Path, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "by_hand.toml"
    assert "cannot be read" in failed("quantize", model, "--recipe", path)
    path.write_text("backend = 'toy'\nmoduls = {}\n")
    assert "Did you mean 'modules'" in failed("quantize", model, "--recipe", path)
    path.write_text("backend = 'toi'\n")
    assert "Did you mean 'toy'" in failed("quantize", model, "--recipe", path)
    path.write_text("backend = 'toy'\nconfig = 'minmax'\n")
    assert "pass --calibration FILE" in failed("quantize", model, "--recipe", path)
    succeeded("quantize", model, "--recipe", path, "--calibration", data)


def test_a_name_that_no_recipe_has_is_an_error_ahead_of_the_export(
    model: Path, data: Path, tmp_path: Path
) -> None:
    command = ("quantize", model, "--backend", "toy", "--calibration", data)
    message = failed(*command, "--save-recipe", tmp_path / "recipe.json")
    assert "the suffix is '.json' (expected '.toml', such as recipe.toml)" in message
    assert "export" not in message


def test_explain_follows_a_recipe(recipe: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    given = ("explain", model, "--recipe", recipe, "--json")
    report = json.loads(run(*given, "--html", page).stdout)
    assert report["backend"] == "toy"
    assert report["verification"] is not None
    assert page.exists()
    recipe.write_text(recipe.read_text().partition("[record]")[0])
    decisions = json.loads(run(*given).stdout)
    assert decisions["verification"] is None
    in_float = {each["operator"] for each in decisions["operators"] if each["status"] == "float"}
    assert "aten.add.Tensor" in in_float
    assert "--float: the recipe has its own" in failed(*given, "--float", "fc")
    assert "is an input" in failed(*given, "--html", recipe)
    assert "or a recipe with its values" in failed(*given, "--numerics")
