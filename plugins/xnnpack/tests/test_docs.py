"""The code in the README and the docs runs as it stands."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import qreg
from qreg.cli.main import main
from qreg.verification.metrics import compare

ROOT = Path(__file__).parents[3]


def run_blocks(path: Path, namespace: dict[str, Any]) -> None:
    blocks = re.findall(r"^( *)```python\n(.*?)```", path.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks, f"{path} has no code"
    for _, block in blocks:
        exec(compile(textwrap.dedent(block), str(path), "exec"), namespace)


def run_page(path: Path, namespace: dict[str, Any]) -> None:
    """Runs all code of a page in its order, also under titles, and the commands of qreg."""
    for language, block in re.findall(
        r"^```(python|sh)[^\n]*\n(.*?)```", path.read_text(), re.DOTALL | re.MULTILINE
    ):
        if language == "python":
            exec(compile(block, str(path), "exec"), namespace)
            continue
        for command in re.findall(r"^qreg (.*)$", block, re.MULTILINE):
            ran = CliRunner().invoke(main, shlex.split(command, comments=True))
            assert ran.exit_code == 0, ran.output


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", ["README.md", "PACKAGE.md"])
def test_the_readme_quantizes_a_model(page: str, tmp_path: Path) -> None:
    model, image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.randn(1, 3, 8, 8)
    run_blocks(ROOT / page, {"model": model, "image": image, "batches": [(image,)]})
    assert (tmp_path / "model.pte").stat().st_size > 0


@pytest.mark.parametrize("page", ["index.md", "quickstart.md"])
def test_the_first_pages_quantize_a_model(page: str, tmp_path: Path) -> None:
    namespace: dict[str, Any] = {}
    run_page(ROOT / "docs" / page, namespace)
    assert namespace["result"].verification.to_float[0].sqnr > 20
    assert (tmp_path / "model.pte").stat().st_size > 0


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the page on migrating, and the folder in which it was run."""
    namespace: dict[str, Any] = {"folder": tmp_path_factory.mktemp("migrated")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(namespace["folder"])
        run_page(ROOT / "docs" / "migrate.md", namespace)
    return namespace


def test_code_from_elsewhere_migrates_as_the_guide_says(migrated: dict[str, Any]) -> None:
    float_model = torch.export.export(migrated["model"], (migrated["image"],))
    for name in ("before", "same", "after"):
        program = (migrated["folder"] / f"{name}.pte").read_bytes()
        assert qreg.verify(program, float_model, migrated["batches"]).to_float[0].sqnr > 25, name


def test_a_model_that_was_rounded_by_torchao_migrates(migrated: dict[str, Any]) -> None:
    """Both programs have 4-bit linears; qreg's has an embedding of 8 bits too."""
    rounded, ours = ((migrated["folder"] / f"{each}.pte") for each in ("rounded", "decoder"))
    float_model = torch.export.export(migrated["decoder"], (migrated["ids"],))
    batches = [(migrated["ids"],)]
    found = [qreg.verify(each.read_bytes(), float_model, batches) for each in (rounded, ours)]
    upstream, migrated_to = (each.to_float[0].sqnr for each in found)
    assert migrated_to == pytest.approx(upstream, abs=1)
    assert rounded.stat().st_size - ours.stat().st_size > 3 * 500 * 64 - 4 * 500 - 4096


def test_a_migrated_quantizer_needs_the_rule_that_it_lacked(migrated: dict[str, Any]) -> None:
    rows = torch.randn(1, 8, 16)
    arguments = {"calibration": [(rows,)], "config": "int8_static_per_tensor"}
    model, annotator = migrated["Projections"](), migrated["Projection"]
    result = qreg.quantize(model, (rows,), registry=migrated["registry"], **arguments)
    (product,) = [each for each in result.decisions if each.operator == "aten.matmul.default"]
    assert product.reason == "matmul of 3d tensors is not supported (must be 2d)"

    migrated["two_dimensions"] = lambda match, config: None
    careless = qreg.Registry({"projection": annotator()})
    with pytest.raises(qreg.errors.VerificationError, match="matmul"):
        qreg.quantize(model, (rows,), registry=careless, **arguments)


def test_the_guide_to_quantizing_runs(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {}
    run_blocks(ROOT / "docs" / "quantize.md", namespace)
    floats = {d.module for d in namespace["result"].decisions if d.status == "float"}
    assert "0" in floats
    assert {each.config for each in namespace["mixed"].decisions} >= {
        "int8_static_per_channel",
        "int8_dynamic_per_channel",
        None,
    }
    assert (tmp_path / "model.pte").stat().st_size > 0
    (first, *_), outputs = namespace["rows"], namespace["outputs"]
    assert outputs["hidden"] is None
    assert torch.equal(outputs["first"], outputs["scores"][:, 0])
    wanted = namespace["masked"].reference(**first)["scores"].detach()
    torch.testing.assert_close(outputs["scores"], wanted, rtol=0, atol=0.2)


def test_the_guide_to_reports_runs(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {}
    run_blocks(ROOT / "docs" / "report.md", namespace)
    assert {each.place for each in namespace["report"].operators} >= {"int8", "float"}
    assert (tmp_path / "report.html").stat().st_size > (tmp_path / "report.json").stat().st_size > 0


def test_the_guide_to_recipes_runs(tmp_path: Path) -> None:
    run_blocks(ROOT / "docs" / "recipes.md", {})
    assert (tmp_path / "recipe.safetensors").stat().st_size > 0


def test_the_guide_to_algorithms_runs() -> None:
    namespace: dict[str, Any] = {}
    run_blocks(ROOT / "docs" / "algorithms.md", namespace)
    outcomes = namespace["result"].algorithms
    assert [each.algorithm for each in outcomes if each.before is not None]
    (halves,) = namespace["qreg_algorithms"]()
    model, image = namespace["model"], namespace["image"]
    linear = torch.nn.Sequential(model, torch.nn.Flatten(), torch.nn.Linear(4 * 12 * 12, 3)).eval()
    batches = namespace["batches"]
    found = qreg.quantize(linear, (image,), calibration=batches, algorithms=[halves]).algorithms
    assert len(found[0].operators) == 1


def test_the_guide_to_tuning_runs(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {}
    run_blocks(ROOT / "docs" / "tune.md", namespace)
    tuned = namespace["tuned"]
    assert tuned.met
    assert [move.name for move in tuned.best.variant.moves] == ["0"]
    assert (tmp_path / "tuned" / "best.pte").read_bytes() == (tmp_path / "model.pte").read_bytes()
    assert "href=" in (tmp_path / "tuned.html").read_text(encoding="utf-8")


def test_the_guide_to_several_processes_runs() -> None:
    namespace: dict[str, Any] = {}
    run_blocks(ROOT / "docs" / "parallel.md", namespace)
    assert namespace["result"].verification.good


def test_the_guide_to_language_models_runs(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {}
    run_blocks(ROOT / "docs" / "language-models.md", namespace)
    result, tokens = namespace["result"], namespace["tokens"]
    assert len(tokens) == len(namespace["in_float"]) == 64
    assert result.verification.to_converted[0].sqnr > 40
    outside = set(result.lowered.outside)
    assert not outside & {"aten.bmm.default", "aten._softmax.default", "aten.full_like.default"}
    assert (tmp_path / "decoder.pte").stat().st_size > 0


def test_the_guide_to_transformers_runs(tmp_path: Path) -> None:
    """The part on exporters is slow, and tested in ``plugins/tests`` with the sweep."""
    namespace: dict[str, Any] = {}
    run_page(ROOT / "docs" / "transformers.md", namespace)
    batch = namespace["batches"][1]
    float_model = torch.export.export(namespace["model"], (), dict(batch))
    with torch.no_grad():
        expected = namespace["model"](**batch).logits
    assert compare(expected, namespace["outputs"].logits).sqnr > 15
    written = (tmp_path / "encoder.pte").read_bytes()
    assert qreg.verify(written, float_model, namespace["batches"]).to_float[0].sqnr > 15


def test_the_comparison_lists_every_row_that_is_tested() -> None:
    text = (ROOT / "docs" / "comparison.md").read_text()
    files = ("test_rows.py", "test_rows_run.py")
    tests = "".join((Path(__file__).parent / each).read_text() for each in files)
    listed = set(re.findall(r"^\| (\d+) \|", text, re.MULTILINE))
    assert listed == set(re.findall(r"def test_(\d+)_", tests)) == {str(n) for n in range(1, 29)}
    run_blocks(ROOT / "docs" / "comparison.md", {})
