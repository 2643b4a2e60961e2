"""Pins the messages for the mistakes of a new user, and that none of them leaves a file behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import batches, failed
from quantizing import Net
from torch import nn


def files(folder: Path) -> list[Path]:
    """What is in a folder, but for the bytecode of the plugin."""
    return sorted(each for each in folder.rglob("*") if "__pycache__" not in each.parts)


def weights(path: Path) -> None:
    torch.save(Net().state_dict(), path)


def scripted(path: Path) -> None:
    torch.jit.script(nn.Linear(4, 4)).save(path)


def pickled(path: Path) -> None:
    torch.save(nn.Linear(4, 4), path)


def folder(path: Path) -> None:
    path.mkdir()


def in_training(path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    torch.export.save(torch.export.export(model.train(), batches()[0]), path)


MODELS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "state dict": (weights, "it is a state dict", "model.load_state_dict("),
    "scripted module": (scripted, "it is a TorchScript module", "torch.export.save("),
    "whole module": (pickled, "objects of torch.nn.modules.linear.Linear", "torch.export.save("),
    "folder": (folder, "it is a folder", "Name a file"),
    "empty file": (Path.touch, "it is empty", "torch.export.save("),
    "training mode": (in_training, "training mode (expected a model in eval", "model.eval()"),
}
COMMANDS = {
    "quantize": ("quantize", "--backend", "toy"),
    "explain": ("explain", "--backend", "toy", "--html", "report.html"),
    "compare": ("compare", "--backends", "toy", "--html", "report.html"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("mistake", MODELS)
def test_what_is_no_model_is_named_and_nothing_is_written(
    mistake: str, command: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write, what, way = MODELS[mistake]
    write(tmp_path / "given.pt2")
    before = files(tmp_path)
    name, *options = COMMANDS[command]
    message = failed(name, "given.pt2", *options, "--calibration", data)
    assert what in message
    assert way in message
    assert files(tmp_path) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mistake", MODELS)
def test_a_reference_is_checked_alike(mistake: str, data: Path, tmp_path: Path) -> None:
    write, what, way = MODELS[mistake]
    write(tmp_path / "given.pt2")
    (tmp_path / "net.toy").write_bytes(b"a program")
    options = ("--backend", "toy", "--reference", tmp_path / "given.pt2", "--inputs", data)
    message = failed("verify", tmp_path / "net.toy", *options)
    assert what in message
    assert way in message


X = torch.randn(8, 4)
BATCHES = {
    "pixels": (X.byte(), "dtype torch.uint8", ".float()"),
    "no batch dimension": (X[0], "shape (4,)", ".unsqueeze(0)"),
    "another batch size": (X[:3], "shape (3, 4)", "dynamic_shapes="),
    "a smaller batch": (X[:3], "shape (3, 4)", "with --batch-size for arrays"),
    "meta device": (X.to("meta"), "on the meta device", "Load the data onto the CPU"),
}


@pytest.mark.parametrize("mistake", BATCHES)
def test_a_batch_that_does_not_fit_has_the_remedy(
    mistake: str, model: Path, data: Path, tmp_path: Path
) -> None:
    batch, what, way = BATCHES[mistake]
    torch.save([(X,), (batch,)], data)
    before = files(tmp_path)
    message = failed("quantize", model, "--backend", "toy", "--calibration", data)
    assert "calibration batch 1: input 'x'" in message
    assert what in message
    assert way in message
    assert files(tmp_path) == before


def test_a_model_named_as_the_current_folder_is_a_folder(data: Path) -> None:
    assert "it is a folder" in failed("quantize", ".", "--backend", "toy", "--calibration", data)
