"""Pins ``qreg quantize --bundle`` and ``qreg bundle``, and their mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import failed, run, succeeded

import qreg


@pytest.fixture
def folder(model: Path, data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    given = ("--backend", "toy", "--calibration", data)
    succeeded("quantize", model, *given, "-o", tmp_path / "net.toy", "--bundle", path)
    return path


def test_the_report_of_a_bundle_is_that_of_the_command(folder: Path, tmp_path: Path) -> None:
    written = tmp_path / "again.toy"
    page = tmp_path / "page.html"
    printed = run("bundle", folder, "--json", "--html", page, "-o", written)
    expected = json.dumps(qreg.load(folder).report.as_dict())
    assert json.loads(printed.stdout) == json.loads(expected)
    assert written.read_bytes() == (tmp_path / "net.toy").read_bytes()
    assert "<html" in page.read_text(encoding="utf-8")
    assert "aten.linear.default" in succeeded("bundle", folder)


def test_its_program_is_verified_without_the_model(folder: Path, model: Path, data: Path) -> None:
    for each in (model, data):
        each.unlink()
    expected = qreg.load(folder).report.verification
    assert "ran 3 inputs" in succeeded("bundle", folder, "--verify")
    found = json.loads(succeeded("bundle", folder, "--verify", "--json"))
    assert found["samples"] == expected.samples
    assert found["to_float"][0]["sqnr"] == pytest.approx(expected.to_float[0].sqnr, abs=1e-3)


def test_a_folder_of_other_files_is_an_error_ahead_of_the_work(
    model: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("keep me")
    given = ("quantize", model, "--backend", "toy", "--calibration", data, "--bundle")
    assert "is not a bundle" in failed(*given, tmp_path / "notes")
    assert "cannot be written" in failed(*given, tmp_path / "gone" / "bundle")
    assert not (tmp_path / "net.toy").exists()


def test_what_is_no_bundle_is_an_error_with_the_way_to_it(folder: Path, tmp_path: Path) -> None:
    assert "it has no file bundle.json" in failed("bundle", tmp_path)
    assert "it is a bundle of qreg" in failed("explain", folder, "--backend", "toy")
