"""Pins what is said of files that are neither programs nor batches; none is unpickled."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qreg.errors import InputError
from qreg.programs.files import read_batches, read_program

NET = nn.Sequential(nn.Linear(4, 2))


class Marking(nn.Linear):
    """A module that leaves a folder behind when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


def legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def safetensors(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def onnx(path: Path) -> None:
    """The first fields of an ``onnx.ModelProto``: ir_version 10, producer_name "pytorch"."""
    path.write_bytes(b"\x08\x0a\x12\x07pytorch\x1a\x032.0")


def folder(path: Path, *files: str) -> None:
    path.mkdir()
    for name in files:
        (path / name).write_text("{}")


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("hello.txt", "hello")


def cut_short(path: Path) -> None:
    torch.export.save(torch.export.export(NET, (torch.zeros(1, 4),)), path)
    path.write_bytes(path.read_bytes()[:-500])


WRITERS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "state dict": (lambda p: torch.save(NET.state_dict(), p), "a state dict", "load_state_dict"),
    "legacy state dict": (lambda p: legacy(NET.state_dict(), p), "a state dict", "load_state_di"),
    "checkpoint": (
        lambda p: torch.save({"epoch": 1, "net": NET.state_dict()}, p),
        "a checkpoint, with a dict under 'net'",
        r"torch.load\('file'\)\['net'\]",
    ),
    "module": (lambda p: torch.save(NET, p), "objects of torch.nn.modules.container", "trusted"),
    "legacy module": (lambda p: legacy(NET, p), "objects of torch.nn.modules.cont", "trusted"),
    "module with code": (
        lambda p: torch.save(Marking(1, 1), p),
        "objects of posix.mkdir",
        "trusted",
    ),
    "scripted": (lambda p: torch.jit.script(NET).save(p), "a TorchScript module", "Export"),
    "traced": (
        lambda p: torch.jit.trace(NET, torch.zeros(1, 4)).save(p),
        "a TorchScript module",
        "the module that it was scripted or traced from",
    ),
    "safetensors": (safetensors, "a safetensors file", "safetensors.torch.load_file"),
    "onnx": (onnx, "an ONNX model", "the PyTorch model that it was made from"),
    "empty": (lambda p: p.write_bytes(b""), "is empty", "torch.export.save"),
    "cut short": (cut_short, "damaged, or cut short", "Write it again"),
    "zip": (archive, "a zip archive", "torch.export.save"),
    "pickle cut short": (
        lambda p: p.write_bytes(b"\x80\x02}q"),
        "damaged, or cut short",
        "Write it again",
    ),
    "folder": (folder, "a folder", "Name a file"),
    "folder of programs": (lambda p: folder(p, "net.pt2"), "a folder", r"such as .*net\.pt2"),
    "pretrained": (lambda p: folder(p, "config.json"), "a pretrained model", "from_pretrained"),
    "bundle": (lambda p: folder(p, "bundle.json"), "a bundle", "with `qreg bundle`"),
    "saved model": (lambda p: folder(p, "saved_model.pb"), "TensorFlow SavedModel", "PyTorch"),
    "batches": (lambda p: torch.save([(torch.zeros(1),)], p), "a list of batches", "Export"),
    "tensor": (lambda p: torch.save(torch.zeros(1), p), "a tensor", "Export"),
    "lowered": (lambda p: p.write_bytes(b"\0\0\0\0ET12" + bytes(32)), "by ExecuTorch", "Export"),
    "tflite": (lambda p: p.write_bytes(b"\0\0\0\0TFL3" + bytes(32)), "TensorFlow Lite", "Export"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_in_place_of_a_program_is_named_with_the_way_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write, what, way = WRITERS[name]
    path = tmp_path / "file"
    write(path)
    with pytest.raises(InputError, match=f"file is not a .*{what}.*{way}"):
        read_program(path)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_code_without_a_name_in_it_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text("model = None")
    with pytest.raises(InputError, match=r"it is code .*name a model in it: .*net\.py:NAME"):
        read_program(path)
    with pytest.raises(InputError, match=r"it is code .*name batches in it: .*net\.py:NAME"):
        read_batches(path)


def numpy_batches(path: Path) -> None:
    torch.save([(np.zeros(4),)], path)


DATA: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "state dict": (lambda p: torch.save(NET.state_dict(), p), "a state dict", "torch.save"),
    "checkpoint": (
        lambda p: torch.save({"net": NET.state_dict()}, p),
        "a checkpoint",
        "torch.save",
    ),
    "module": (lambda p: torch.save(NET, p), "objects of torch.nn.modules", "tensors alone"),
    "array": (lambda p: np.save(p.open("wb"), np.zeros(4)), "a NumPy array", "torch.from_numpy"),
    "arrays": (lambda p: np.savez(p.open("wb"), np.zeros(4)), "a NumPy archive", "from_numpy"),
    "batches of arrays": (numpy_batches, "a pickle of NumPy arrays", "torch.from_numpy"),
    "tensor": (lambda p: torch.save(torch.zeros(1), p), "a tensor", r"\.split\(8\)"),
    "program": (
        lambda p: torch.export.save(torch.export.export(NET, (torch.zeros(1, 4),)), p),
        "a program of torch.export",
        "torch.save",
    ),
    "image": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9)), "an image", "torch.save"),
    "empty": (lambda p: p.write_bytes(b""), "is empty", "torch.save"),
    "folder": (folder, "a folder", "Name a file"),
}


@pytest.mark.parametrize("name", DATA)
def test_a_file_in_place_of_batches_is_named_with_the_way_out(name: str, tmp_path: Path) -> None:
    write, what, way = DATA[name]
    write(tmp_path / "file")
    with pytest.raises(InputError, match=f"(?i){what}.*{way}"):
        read_batches(tmp_path / "file")
