"""Pins the files of a recipe: their schema, their errors, and that nothing in them is executed."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomlkit
from attrs import evolve
from following import made, plain_registry
from jsonschema import Draft202012Validator
from torch import nn

import qreg
from qreg import Recipe
from qreg.configs.factory import config
from qreg.configs.validation import equivalent
from qreg.errors import InputError, RecipeError, UnknownNameError
from qreg.recipes.specs import config_of

SCHEMA = Path(__file__).parents[2] / "docs" / "recipe.schema.json"
ACTIVATIONS = ("input_activation", "output_activation")
CALL = "[[calls]]\nmodule = ''\noperator = 'aten.add'\nordinal = 0\nconfig = 'float'\n"
SPEC = {
    "dtype": "int8",
    "qscheme": "per_tensor_symmetric",
    "observer": "torchao.MinMaxObserver",
}
GUIDE = SCHEMA.with_name("recipes.md")


@pytest.fixture(scope="module")
def recipe(toy: ModuleType) -> Recipe:
    registry = plain_registry(toy)
    quantizer = qreg.get_quantizer(
        "plain", config(eps=2**-16), registry=registry, unknown_modules="warn"
    )
    quantizer.set_module_name("second", "minmax").set_operator("", "aten.add.Tensor", 0, None)
    quantizer.set_operator_type("aten.tanh.default", None)
    return made(registry, quantizer=quantizer).recipe


@pytest.fixture
def path(recipe: Recipe, tmp_path: Path) -> Path:
    recipe.save(tmp_path / "recipe.toml")
    return tmp_path / "recipe.toml"


def test_what_is_saved_is_what_is_loaded(recipe: Recipe, path: Path) -> None:
    found = Recipe.load(path)
    assert found == recipe
    assert found.record is not None
    assert recipe.record is not None
    assert found.record.operators == recipe.record.operators
    assert found.digest == recipe.digest
    found.save(path.with_name("again.toml"))
    beside = path.with_suffix(".safetensors")
    assert path.with_name("again.safetensors").read_bytes() == beside.read_bytes()


def test_the_schema_has_every_key_and_no_other(path: Path) -> None:
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    data = tomlkit.parse(path.read_text()).unwrap()
    Draft202012Validator(schema).validate(data)
    from qreg.recipes.values import KEYS

    assert schema["properties"].keys() == KEYS.keys()
    (first, *_) = Draft202012Validator(schema).iter_errors({**data, "modle": 1})
    assert "modle" in first.message


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("modle = 1", UnknownNameError, r"unknown key of recipe.toml 'modle'.*'modules'"),
        ("seed = 'x'", RecipeError, r"recipe.toml: seed is 'x' \(expected an integer\)"),
        (f"seed = {2**64}", RecipeError, r"seed is \d+ \(expected at most 64 bits\)"),
        ("record = 'x'", RecipeError, r"\[record\]: it is 'x' \(expected a table\)"),
        ("schema = 2", RecipeError, r"schema is 2 \(expected 1\). Update qreg"),
        ("config = 8", RecipeError, r"config is 8 \(expected a string\)"),
        ("allow_float = 1", RecipeError, r"expected true or false"),
        ("unknown_modules = 'no'", RecipeError, r"expected 'error' or 'warn'"),
        ("algorithms = [1]", RecipeError, r"algorithms: 0 is 1 \(expected a string or a table\)"),
        ("modules = {a = 1}", RecipeError, r"\[modules\]: a is 1 \(expected a string\)"),
        ("calls = [{module = 'a'}]", RecipeError, r"call 0: it lacks operator"),
        (2 * CALL, RecipeError, "call 1 is there before"),
        ("calls = [1]", RecipeError, r"call 0 is 1 \(expected a table"),
        ("options = {a = [1]}", RecipeError, r"\[options\]: a is \[1\]"),
        ("record = {file = 'x'}", RecipeError, r"\[record\] lacks sha256"),
        ("x = ", RecipeError, "is not TOML"),
        ("[modules]\nblocks.0 = 'float'", RecipeError, r'Quote a name with dots: "blocks.0" = '),
        (
            "[record]\nfile = '../x'\nsha256 = ''\nintent = '{intent}'",
            RecipeError,
            "expected the name of a file next to it",
        ),
    ],
)
def test_a_recipe_by_hand_has_clear_errors(
    line: str, error: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.toml"
    intent = Recipe("plain").intent
    path.write_text(f"backend = 'plain'\n{line}\n".replace("{intent}", intent))
    with pytest.raises(error, match=message):
        Recipe.load(path)


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"is_qat": "no"}, RecipeError, "is_qat is 'no' .expected true or false"),
        ({"weight": {**SPEC, "is_dynamic": "no"}}, RecipeError, "is_dynamic is 'no'"),
        ({"weight": {**SPEC, "quant_min": -1.5}}, RecipeError, "quant_min is -1.5"),
        ({"weight": {**SPEC, "observer": ["x"]}}, RecipeError, "observer is"),
        ({"weight": {**SPEC, "arguments": "eps"}}, RecipeError, "arguments is 'eps'"),
        ({"weight": {**SPEC, "arguments": {"esp": 1}}}, RecipeError, "not a spec: .*'esp'"),
        ({"weight": {**SPEC, "arguments": {"eps": -1}}}, RecipeError, "expected a number above 0"),
        ({"weight": {**SPEC, "arguments": {"eps": math.nan}}}, RecipeError, "eps is nan"),
        ({"weight": {**SPEC, "arguments": {"observer": 3}}}, RecipeError, "observer: it is 3"),
        ({"weight": {**SPEC, "qscheme": "per_channel_symmetric"}}, RecipeError, "ch_axis is not"),
        ({"is_qt": True}, UnknownNameError, r"unknown key of \[configs.mine\] 'is_qt'"),
        ({"weight": {"dtype": "int8", "observer": "os.system"}}, UnknownNameError, "observer in"),
        (
            {"weight": {"dtype": "int80", "observer": "torchao.MinMaxObserver"}},
            UnknownNameError,
            "unknown dtype in .*'int80'. Did you mean 'int8'",
        ),
        (
            {"weight": {"dtype": "int8", "qscheme": "x", "observer": "torchao.MinMaxObserver"}},
            UnknownNameError,
            "unknown qscheme in .*'x'.*per_tensor_affine",
        ),
        (
            {"weight": {"dtype": "int8", "quant_min": 9, "quant_max": 1,
                        "observer": "torchao.MinMaxObserver"}},
            RecipeError,
            "it is not a spec",
        ),
    ],
)  # fmt: skip
def test_a_config_by_hand_has_clear_errors(
    table: dict[str, Any], error: Any, message: str, toy: ModuleType
) -> None:
    recipe = Recipe("plain", "mine", configs={"mine": table})
    with pytest.raises(error, match=message):
        qreg.quantize(nn.Linear(4, 4), recipe=recipe, registry=plain_registry(toy))


@pytest.mark.parametrize(
    ("name", "used", "message"),
    [
        ("default", "default", "'default' is a reserved name"),
        ("float", None, "'float' is a reserved name"),
        ("minmax", "minmax", "'minmax' is a config of backend 'plain'"),
        ("mine", "minmax", "'mine' is not used"),
    ],
)
def test_a_config_by_hand_is_what_its_name_stands_for(
    name: str, used: str | None, message: str, toy: ModuleType
) -> None:
    recipe = Recipe("plain", used, configs={name: {"weight": SPEC}})
    with pytest.raises(RecipeError, match=message):
        qreg.quantize(nn.Linear(4, 4), recipe=recipe, registry=plain_registry(toy))


def test_the_example_in_the_guide_is_a_recipe(tmp_path: Path) -> None:
    (example,) = GUIDE.read_text(encoding="utf-8").split("```toml\n")[1:]
    path = tmp_path / "recipe.toml"
    path.write_text(example.partition("```")[0])
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator(schema).validate(tomlkit.parse(path.read_text()).unwrap())
    found = Recipe.load(path)
    assert found.modules == {"encoder.0": None, "decoder": "int8_dynamic_per_channel"}
    assert found.calls == {("blocks.3", "aten.linear.default", 1): None}
    small = config_of(found.configs["small"], "small")
    assert equivalent(small, dataclasses.replace(config(eps=1e-6), **dict.fromkeys(ACTIVATIONS)))


def test_files_that_do_not_belong_together(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    path.write_text(text.replace('second = "minmax"', 'second = "float"'))
    with pytest.raises(RecipeError, match="edited after its values were saved"):
        Recipe.load(path)
    path.write_text(f"{text}\n# a comment is no edit\n")
    Recipe.load(path)
    beside = path.with_suffix(".safetensors")
    data = beside.read_bytes()
    beside.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(RecipeError, match="its SHA-256 differs"):
        Recipe.load(path)
    beside.unlink()
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.load(path)


def test_a_damaged_file_of_values_is_an_error(path: Path) -> None:
    from qreg.recipes.tensors import read_record

    data = path.with_suffix(".safetensors").read_bytes()
    for damaged in (b"", data[:100], data.replace(b"qparams/", b"qparbms/")):
        with pytest.raises(RecipeError, match="does not hold the values of a recipe"):
            read_record(damaged, path)


def test_both_files_are_written_or_none(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.safetensors").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        recipe.save(tmp_path / "recipe.toml")
    assert not (tmp_path / "recipe.toml").exists()
    with pytest.raises(RecipeError, match=r"suffix is '.json' \(expected '.toml', "):
        recipe.save(tmp_path / "recipe.json")
    evolve(recipe, record=None).save(tmp_path / "alone.toml")
    assert not (tmp_path / "alone.safetensors").exists()
