"""A bundle runs, verifies and explains a program without its model, and is whole or an error."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from quantizing import Net, X, batches, quantize
from torch import Tensor, nn

import qreg
from qreg import Bundle, Registry, Result
from qreg.errors import BundleError, CalibrationError, InputError, QualityWarning, VerificationError
from qreg.report.stored import restored, stored


class Nested(nn.Module):
    """Returns a dict with a tuple, a None and a number in it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor, *, shift: Tensor) -> dict[str, Any]:
        y = self.net(x)
        return {"logits": y, "more": (y + shift, None, 3)}


@pytest.fixture(scope="module")
def result(registry: Registry) -> Result:
    shapes = {"x": {0: torch.export.Dim("rows", min=2, max=64)}, "shift": {}}
    shift = torch.ones(4)
    data = [((x,), {"shift": shift}) for x in batches()]
    example = ((X,), {"shift": shift})
    return quantize(registry, Nested(), example, calibration=data, dynamic_shapes=shapes)


@pytest.fixture(scope="module")
def folder(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "net"
    result.save_bundle(path)
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    path = tmp_path / "copy"
    path.mkdir()
    for each in folder.iterdir():
        (path / each.name).write_bytes(each.read_bytes())
    return path


def test_it_runs_as_the_result_does(result: Result, folder: Path, registry: Registry) -> None:
    bundle = qreg.load(folder, registry=registry)
    x, shift = torch.randn(5, 4), torch.full((4,), 2.0)
    found, expected = bundle.run(x, shift=shift), result.run(x, shift=shift)
    assert found["logits"].equal(expected["logits"])
    assert found["more"][0].equal(expected["more"][0])
    assert found["more"][1:] == (None, 3)
    assert bundle.run({"x": x, "shift": shift})["logits"].equal(expected["logits"])
    assert bundle.program == result.program
    with pytest.raises(CalibrationError, match=r"run\(\): input 'x': has shape \(5, 3\)"):
        bundle.run(torch.randn(5, 3), shift=shift)


def test_it_verifies_with_the_numbers_of_the_result(
    result: Result, folder: Path, registry: Registry
) -> None:
    found, expected = qreg.load(folder, registry=registry).verify(), result.verification
    assert expected is not None
    assert found.samples == 4
    for one, other in zip(found.to_float, expected.to_float, strict=True):
        assert one.sqnr == pytest.approx(other.sqnr, abs=1e-3)
    assert found.to_converted == expected.to_converted


def test_programs_that_take_integers_run_and_verify(registry: Registry, tmp_path: Path) -> None:
    result = quantize(registry, Net(), (X,), calibration=[(x,) for x in batches()], io="int8")
    result.save_bundle(tmp_path / "integers")
    bundle = qreg.load(tmp_path / "integers", registry=registry)
    assert bundle.signature == result.signature
    (given,), (returned,) = bundle.signature.inputs, bundle.signature.outputs
    assert given.qparams is not None
    assert returned.qparams is not None
    values = given.qparams.quantized(X)
    found = bundle.run(values)
    assert found.dtype == values.dtype == torch.int8
    assert found.equal(result.run(values))
    assert result.verification is not None
    assert bundle.verify().to_converted == result.verification.to_converted
    with pytest.raises(CalibrationError, match=r"run\(\): input 'x': .*int8"):
        bundle.run(X)


@pytest.mark.parametrize("bad", [{"scale": "much"}, {"zero_point": 0.5}, {"unit": 1}], ids=str)
def test_qparams_of_another_form_are_damage(
    bad: dict[str, Any], registry: Registry, tmp_path: Path
) -> None:
    result = quantize(registry, Net(), (X,), calibration=[(x,) for x in batches()], io="int8")
    result.save_bundle(tmp_path)
    manifest = json.loads((tmp_path / "bundle.json").read_text())
    manifest["inputs"][0]["qparams"] |= bad
    (tmp_path / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"values cannot be read: .*QParams.*Copy the whole"):
        qreg.load(tmp_path, registry=registry)


def test_it_explains_again_without_the_backend(
    result: Result, folder: Path, tmp_path: Path
) -> None:
    bundle = qreg.load(folder, registry=Registry(entry_points=False))
    assert bundle.report.as_dict() == result.report.as_dict()
    assert str(bundle.report) == str(result.report)  # also the numbers that JSON lacks
    assert bundle.report.provenance == result.report.provenance
    bundle.report.save_html(tmp_path / "report.html")
    with pytest.raises(qreg.errors.UnknownNameError, match="unknown backend 'toy'"):
        bundle.run(X, shift=torch.ones(4))


def test_its_recipe_makes_the_program_again(
    result: Result, folder: Path, registry: Registry
) -> None:
    recipe = qreg.load(folder).recipe
    assert recipe is not None
    assert recipe.digest == result.recipe.digest


def test_the_signature_has_names_shapes_dtypes_and_dynamic_dimensions(
    result: Result, folder: Path
) -> None:
    signature = result.signature
    assert str(signature) == (
        "(x: float32 (any, 4), shift: float32 (4,)) -> "
        "(logits: float32 (any, 4), more.0: float32 (any, 4))"
    )
    assert [each.limits for each in signature.inputs] == [{0: (2, 64)}, {}]
    assert qreg.load(folder).signature == signature


def test_the_only_output_is_called_output(registry: Registry) -> None:
    assert [each.name for each in quantize(registry).signature.outputs] == ["output"]


def test_a_result_is_not_pickled_and_says_how_to_save_it(result: Result) -> None:
    with pytest.raises(TypeError, match=r"save_bundle\(folder\).*qreg\.load\(folder\)"):
        pickle.dumps(result)
    assert pickle.loads(pickle.dumps(result.report)).as_dict() == result.report.as_dict()


def test_without_data_it_runs_and_does_not_verify(
    result: Result, registry: Registry, tmp_path: Path
) -> None:
    result.save_bundle(tmp_path / "net", data=False)
    bundle = qreg.load(tmp_path / "net", registry=registry)
    assert not (tmp_path / "net" / "data.safetensors").exists()
    assert bundle.run(X, shift=torch.ones(4))["logits"].shape == (8, 4)
    with pytest.raises(InputError, match="saved without data"):
        bundle.verify()


def test_a_poor_program_is_poor_again(registry: Registry, tmp_path: Path) -> None:
    with pytest.warns(QualityWarning):
        poor = quantize(registry, min_sqnr=90.0)
    poor.save_bundle(tmp_path / "net")
    with pytest.warns(QualityWarning, match="expected at least 90 dB"):
        found = qreg.load(tmp_path / "net", registry=registry).verify()
    assert found.verdict == "poor"


def test_a_wrong_program_fails_its_verification(
    result: Result, copy: Path, registry: Registry
) -> None:
    bundle = qreg.load(copy, registry=registry)
    data = bundle._data
    assert data is not None
    other = [[-each for each in outputs] for outputs in data.of_converted]
    wrong = evolve(bundle, data=evolve(data, of_converted=other, of_float=other))
    with pytest.raises(VerificationError, match="does not match the converted model"):
        wrong.verify()


@pytest.mark.parametrize("name", ["program.toy", "report.json", "data.safetensors", "recipe.toml"])
def test_a_file_that_is_missing_or_changed_is_named(name: str, copy: Path) -> None:
    path = copy / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match=rf"its file {name} was changed"):
        qreg.load(copy)
    path.unlink()
    with pytest.raises(BundleError, match=rf"its file {name} cannot be read: No such file"):
        qreg.load(copy)


def changed(copy: Path, **values: Any) -> None:
    path = copy / "bundle.json"
    manifest = {**json.loads(path.read_text(encoding="utf-8")), **values}
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_a_bundle_of_a_newer_version_says_so(copy: Path) -> None:
    changed(copy, schema=2, backend=None)
    with pytest.raises(BundleError, match=r"version 2 \(expected at most 1\). Update qreg"):
        qreg.load(copy)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backend": 3}, "backend is 3"),
        ({"files": {"../net/report.json": ""}}, "names of files in its folder"),
        ({"files": {}}, "lists no file program.toy"),
        ({"arguments": {"structure": {"set": []}, "names": []}}, "'set' is not a kind"),
        ({"inputs": [{"name": "x", "shape": [], "dtype": "save", "limits": {}}]}, "not a dtype"),
        ({"lowered": {"delegates": 1, "size": 2}}, "unexpected keyword argument 'size'"),
        ({"verification": {}}, "missing 4 required"),
    ],
)
def test_a_manifest_with_other_values_is_an_error(
    values: dict[str, Any], message: str, copy: Path
) -> None:
    changed(copy, **values)
    with pytest.raises(BundleError, match=message):
        qreg.load(copy)


def test_another_folder_is_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"it has no file bundle\.json"):
        qreg.load(tmp_path)


def test_a_folder_with_other_files_is_left_alone(result: Result, tmp_path: Path) -> None:
    (tmp_path / "work.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BundleError, match="is not a bundle"):
        result.save_bundle(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["work.txt"]


def test_a_bundle_that_cannot_be_written_leaves_the_old_one(
    result: Result, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {each.name: each.read_bytes() for each in copy.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(InputError, match="No space left on device"):
            result.save_bundle(copy)
    assert {each.name: each.read_bytes() for each in copy.iterdir()} == before
    assert [each.name for each in copy.parent.iterdir()] == [copy.name]
    (copy / "stale.json").write_text("{}", encoding="utf-8")
    result.save_bundle(copy)  # replaces the whole folder
    assert {each.name for each in copy.iterdir()} == set(before)


def test_a_quantizer_that_no_recipe_holds_is_saved_without_one(
    registry: Registry, tmp_path: Path
) -> None:
    quantizer = qreg.get_quantizer("toy", registry=registry).set_filter_function(lambda _: True)
    made = qreg.quantize(Net(), X, quantizer=quantizer, calibration=batches())
    made.save_bundle(tmp_path / "net")
    bundle = qreg.load(tmp_path / "net", registry=registry)
    assert bundle.recipe is None
    assert bundle.verify().good


def test_reading_executes_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No unpickling, no listing of plugins, and no load of a program."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("code in a file may be executed")

    for name in ("pickle.load", "pickle.loads", "torch.load", "torch.export.load"):
        monkeypatch.setattr(name, refused)
    monkeypatch.setattr(Registry, "__init__", refused)
    assert qreg.load(copy).report.model == "Nested"


def test_a_stored_report_is_the_same_report(result: Result) -> None:
    report = result.report
    odd = evolve(report.operators[0], sqnr=math.inf, isolated_sqnr=-math.inf, shape=(None, 4))
    report = evolve(report, operators=(odd, *report.operators[1:]))
    assert restored(stored(report)).operators == report.operators
    for text in ('{"backend": 3}', "[]", '{"backend": "a", "other": 1}', '{"backend": "a"}'):
        with pytest.raises(ValueError, match="the report"):
            restored(text)


def test_types_of_the_models_code_are_dicts_or_tuples(
    registry: Registry, tmp_path: Path, odd_output: Callable[[Tensor], Any]
) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor) -> Any:
            return odd_output(self.net(x))

    made = quantize(registry, Odd())
    made.save_bundle(tmp_path / "net")
    found: Bundle = qreg.load(tmp_path / "net", registry=registry)
    assert found.run(X)["scores"].equal(made.run(X)["scores"])


@pytest.fixture
def odd_output() -> Any:
    """A type of outputs as those of transformers: a dict that torch knows by registration."""

    class Scores(dict[str, Tensor]):
        pass

    torch.utils._pytree.register_pytree_node(
        Scores,
        lambda each: (list(each.values()), list(each)),
        lambda values, keys: Scores(zip(keys, values, strict=True)),
        serialized_type_name=f"{__name__}.Scores",
    )
    return lambda y: Scores(scores=y)


class Counting(nn.Module):
    """Adds what it has seen before to its output."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.register_buffer("seen", torch.zeros(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.copy_(self.seen * 0.5 + self.net(x))
        return self.seen + x


def test_a_program_with_state_begins_anew_and_keeps_it(registry: Registry, tmp_path: Path) -> None:
    made = quantize(registry, Counting())
    made.save_bundle(tmp_path / "net")
    bundle = qreg.load(tmp_path / "net", registry=registry)
    assert made.verification is not None
    sqnr = made.verification.worst_sqnr
    assert bundle.verify().worst_sqnr == pytest.approx(sqnr, abs=1e-3)
    x = batches()[0]
    first, second = bundle.run(x), bundle.run(x)
    assert first.equal(made.run(x))
    assert second.equal(made.run(x))
    assert not first.equal(second)


def test_an_output_that_only_the_model_computes_is_an_error(
    registry: Registry, tmp_path: Path
) -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor) -> tuple[Tensor, int]:
            return self.net(x), x.shape[0]

    shapes = {"x": {0: torch.export.Dim("rows", min=2, max=64)}}
    made = quantize(registry, Sized(), dynamic_shapes=shapes)
    with pytest.raises(InputError, match="output 1 of the model is a size"):
        made.save_bundle(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []
