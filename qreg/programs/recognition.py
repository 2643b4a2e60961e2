"""Recognize what a file holds from its first bytes and records, without executing code in it."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from qreg.errors import InputError

PROGRAM = "expected a program that torch.export.save wrote"
BATCHES = "expected a list of tuples of tensors that torch.save wrote"
EXPORT = "torch.export.save(torch.export.export(model.eval(), example_inputs), 'model.pt2')"
LIST = "torch.save([(tensor,), ...], 'data.pt')"
EXPORTED = "a program of torch.export"
ZIP, PICKLE, NUMPY, NUMPY_ZIP = b"PK\x03\x04", b"\x80", b"\x93NUMPY", "a NumPy archive (.npz)"
AT_START = {
    NUMPY: "a NumPy array (.npy)",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"GGUF": "a GGUF file",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"<?xml": "an XML file, as a program for OpenVINO is",
}
AT_4 = {b"TFL3": "a TensorFlow Lite model", b"ET12": "a program that was lowered by ExecuTorch"}
ONNX_FIELDS = b"\x12\x1a\x22\x2a\x32\x3a\x42"  # keys of the second field of an onnx.ModelProto
SAFE = ("collections.", "torch._utils.", "torch.storage.", "torch.FloatStorage", "torch.serial")


@frozen
class Found:
    """What a file holds, the ``way`` from it to a program, and how to write ``data`` instead."""

    what: str
    way: str = f"Export the PyTorch model: {EXPORT}."
    data: str = f"Write the batches with {LIST}."


DAMAGED = Found("damaged, or cut short", "Write it again.", "Write it again.")
WEIGHTS = "Load it into its module with model.load_state_dict({}), and export that: " + EXPORT + "."
OWN_CLASS = (
    "Reading it would execute code. Where the class is defined, and the file is trusted, read it "
    "with torch.load(path, weights_only=False), and export the model: " + EXPORT + "."
)


def recognized(path: Path) -> Found | None:
    """Return what a file or folder holds, or None if that is not known."""
    if path.is_dir():
        return _folder(path)
    with path.open("rb") as stream:
        head = stream.read(16)
    if not head:
        return Found("empty")
    if head.startswith(ZIP):
        return _archive(path)
    if head.startswith(PICKLE):
        return _pickled(path)
    return _by_bytes(path, head)


def wrong(path: Path, fact: str, expected: str) -> InputError | None:
    """Return the error for a file that holds something else, or None if that is not known.

    ``fact`` is what the file is not, or why it cannot be read.
    """
    found = recognized(path)
    if found is None or (found.what == EXPORTED and expected == PROGRAM):
        return None
    remedy = found.data if expected == BATCHES else found.way
    return InputError(f"{path} {fact}: it is {found.what} ({expected}). {remedy}")


def _folder(path: Path) -> Found:
    programs = sorted(each.name for each in path.glob("*.pt2"))
    if (path / "saved_model.pb").exists():
        return Found("the folder of a TensorFlow SavedModel")
    if (path / "bundle.json").exists():
        return Found("a bundle of qreg", "Read it with `qreg bundle` or with qreg.load.")
    if (path / "config.json").exists():
        return Found(
            "the folder of a pretrained model",
            f"Load it with from_pretrained({str(path)!r}), and export the model: {EXPORT}. "
            "On the command line, pass --hf and --task.",
        )
    way = f"Name a file in it, such as {path / programs[0]}." if programs else "Name a file."
    return Found("a folder", way, "Name a file.")


def _archive(path: Path) -> Found | None:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.namelist()
            names = [record.rpartition("/")[2] for record in records]
            if "archive_format" in names:
                return _export(records)
            if "constants.pkl" in names:
                return Found(
                    "a TorchScript module (torch.jit.save)",
                    f"Export the module that it was scripted or traced from: {EXPORT}.",
                )
            if names and all(name.endswith(".npy") for name in names):
                return _numpy(NUMPY_ZIP)
            if "data.pkl" not in names:
                return Found("a zip archive")
            data = archive.read(records[names.index("data.pkl")])
    except (zipfile.BadZipFile, OSError, ValueError):
        return DAMAGED
    return _saved(path, data)


def _export(records: list[str]) -> Found:
    compiled = any("aotinductor" in record for record in records)
    return Found("compiled code (an AOTInductor package)" if compiled else EXPORTED)


def _pickled(path: Path) -> Found:
    return _saved(path, path.read_bytes())


def _saved(path: Path, data: bytes) -> Found:
    """Return what torch.save wrote; ``data`` is the pickle, which is read and never run."""
    import torch

    try:
        value = torch.load(path, weights_only=True, map_location="meta")
    except Exception:  # a damaged file, or one with objects, fails in many ways
        name = next(_classes(data), None)
        if name is None:
            return DAMAGED
        if name.startswith("numpy."):
            return _numpy("a pickle of NumPy arrays")
        return Found(f"a pickle of objects of {name}", OWN_CLASS, _DATA_OF_CLASS)
    return _of_value(value, path)


_DATA_OF_CLASS = f"Reading it would execute code. Write tensors alone: {LIST}."


def _of_value(value: Any, path: Path) -> Found:
    import torch

    load = f"torch.load({path.name!r})"
    if isinstance(value, Mapping):
        if any(isinstance(each, torch.Tensor) for each in value.values()):
            what = "a state dict, a dict of tensors without the code that uses them"
            return Found(what, WEIGHTS.format(load))
        inside = next((n for n, each in value.items() if isinstance(each, Mapping) and each), None)
        if inside is not None:
            state = f"{load}[{inside!r}]"
            return Found(f"a checkpoint, with a dict under {inside!r}", WEIGHTS.format(state))
    if isinstance(value, torch.Tensor):
        data = f"Split it into batches: torch.save([(each,) for each in {load}.split(8)], path)."
        return Found("a tensor", data=data)
    if isinstance(value, (list, tuple)):
        return Found("a list of batches, as for calibration")
    return Found(f"a {type(value).__name__} that torch.save wrote")


def _classes(data: bytes) -> Iterator[str]:
    """Yield the names of the classes in pickles that weights do not need, in their order."""
    strings: list[str] = []
    for operation, argument in _operations(io.BytesIO(data)):
        if operation == "STACK_GLOBAL":
            argument = " ".join(strings[-2:])
        elif isinstance(argument, str) and operation != "GLOBAL":
            strings.append(argument)
        name = str(argument).replace(" ", ".")
        if operation.endswith("GLOBAL") and not name.startswith(SAFE):
            yield name


def _operations(stream: io.BytesIO) -> Iterator[tuple[str, Any]]:
    """Yield the operations of all pickles in a stream; the older format has one after another."""
    try:
        while True:
            for operation, argument, _ in pickletools.genops(stream):
                yield operation.name, argument
    except (ValueError, IndexError):  # the end, or what is not a pickle
        return


def _by_bytes(path: Path, head: bytes) -> Found | None:
    known = [what for magic, what in AT_START.items() if head.startswith(magic)]
    known += [AT_4[head[4:8]]] if head[4:8] in AT_4 else []
    if known:
        return _numpy(known[0]) if head.startswith(NUMPY) else Found(known[0])
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        load = f"safetensors.torch.load_file({path.name!r})"
        return Found("a safetensors file, which has weights without code", WEIGHTS.format(load))
    if path.suffix == ".py":
        return Found(
            "code",
            f"On the command line, name a model in it: {path}:NAME.",
            f"On the command line, name batches in it: {path}:NAME.",
        )
    is_onnx = head[0] == 8 and head[1] < 64 and head[2] in ONNX_FIELDS
    if is_onnx or path.suffix == ".onnx":
        return Found("an ONNX model", f"Export the PyTorch model that it was made from: {EXPORT}.")
    return None


def _numpy(what: str) -> Found:
    data = "Write its arrays as batches: torch.save([(torch.from_numpy(array),), ...], 'data.pt')."
    return Found(what, data=data)
