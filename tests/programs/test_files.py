"""Pins that nothing in a file is executed by reading it, and that no file is written by half."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from qreg.errors import InputError
from qreg.programs.files import read_batches, read_program
from qreg.utils.files import check_writable, write_atomically

Edit = Callable[[str, bytes], bytes]


class Payload:
    """Unpickling one of these leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A file that is there once a payload has run."""
    return tmp_path / "ran"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A program with a weight, a dynamic dimension and sample inputs."""
    path = tmp_path / "model.pt2"
    shapes = ({0: Dim("batch", min=2, max=64)},)
    program = torch.export.export(nn.Linear(3, 3), (torch.ones(2, 3),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


def edited(path: Path, edit: Edit) -> Path:
    """A copy of an archive with its records edited."""
    copy = path.with_name(f"edited-{path.name}")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
        for record in source.namelist():
            target.writestr(record, edit(record, source.read(record)))
    return copy


def replacing(suffix: str, data: bytes) -> Edit:
    return lambda record, old: data if record.endswith(suffix) else old


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def rewritten(value: Any, change: Callable[[dict[str, Any]], None]) -> bytes:
    """JSON with a change made to every object in it."""

    def walk(item: Any) -> None:
        if isinstance(item, dict):
            change(item)
        for inner in item.values() if isinstance(item, dict) else item:
            if isinstance(inner, (dict, list)):
                walk(inner)

    walk(value)
    return json.dumps(value).encode()


def test_the_payload_runs_where_nothing_is_checked(trace: Path) -> None:
    torch.load(io.BytesIO(saved(Payload(trace))), weights_only=False)
    assert trace.exists()


# Programs


def test_a_program_is_read_as_it_was_saved(model: Path) -> None:
    read, original = read_program(model), torch.export.load(model)
    x = torch.randn(5, 3)
    assert torch.equal(read.module()(x), original.module()(x))
    assert read.example_inputs is not None


@pytest.mark.parametrize("content", [b"", b"plain text", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_archive_says_how_to_write_one(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is not a \.pt2 file.*torch\.export\.save"):
        read_program(path)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/hello.txt", "hello")
    with pytest.raises(InputError, match=r"model\.pt2"):
        read_program(path)


@pytest.mark.parametrize("read", [read_program, read_batches])
def test_a_missing_file_and_a_folder_are_no_files(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match="is not a file"):
            read(path)


def test_sample_inputs_that_are_code_are_not_run(model: Path, trace: Path) -> None:
    bad = edited(model, replacing("sample_inputs/model.pt", saved(Payload(trace))))
    with pytest.raises(InputError, match=r"sample_inputs/model\.pt.*executing code"):
        read_program(bad)
    assert not trace.exists()


def test_weights_that_are_pickled_are_not_run(model: Path, trace: Path) -> None:
    def edit(record: str, data: bytes) -> bytes:
        if record.endswith("weight_0"):
            return saved(Payload(trace))
        if record.endswith("weights_config.json"):
            return data.replace(b'"use_pickle": false', b'"use_pickle": true')
        return data

    with pytest.raises(InputError, match="stored as a pickle"):
        read_program(edited(model, edit))
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["custom_obj", "opaque_obj"])
def test_constants_that_are_objects_are_not_run(kind: str, model: Path, trace: Path) -> None:
    entry = {"path_name": f"{kind}_0", "is_param": False, "use_pickle": False, "tensor_meta": None}
    config = json.dumps({"config": {"evil": entry}}).encode()
    bad = edited(model, replacing("model_constants_config.json", config))
    with zipfile.ZipFile(bad, "a") as archive:
        archive.writestr(f"model/data/constants/{kind}_0", pickle.dumps(Payload(trace)))
    with pytest.raises(InputError, match="'evil' is stored as a pickle"):
        read_program(bad)
    assert not trace.exists()


@pytest.mark.parametrize("record", ["data/weights/model.pt", "data/constants/model.pt"])
def test_records_of_the_legacy_format_are_not_run(record: str, model: Path, trace: Path) -> None:
    with zipfile.ZipFile(model, "a") as archive:
        archive.writestr(f"model/{record}", saved(Payload(trace)))
    with pytest.raises(InputError, match="executing code"):
        read_program(model)
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore:This version of file is deprecated")
@pytest.mark.parametrize(
    "record",
    ["serialized_state_dict.json", "serialized_constants.json", "serialized_example_inputs.pt"],
)
def test_an_archive_of_the_older_format_is_not_run(
    record: str, model: Path, trace: Path, tmp_path: Path
) -> None:
    # torch.export.load unpickles these records whatever their names end in.
    with zipfile.ZipFile(model) as source:
        (graph,) = (name for name in source.namelist() if name.endswith("models/model.json"))
        program = source.read(graph)
    version = json.loads(program)["schema_version"]
    path = tmp_path / "older.pt2"
    empty = dict.fromkeys(
        ["serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt"], b""
    )
    records = {**empty, record: saved(Payload(trace))}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", f"{version['major']}.{version['minor']}")
        archive.writestr("serialized_exported_program.json", program)
        for name, data in records.items():
            archive.writestr(name, data)
    with pytest.raises(InputError):
        read_program(path)
    assert not trace.exists()


def test_a_symbolic_size_that_is_code_is_not_run(model: Path, trace: Path) -> None:
    # sympy, which torch.export.load reads symbolic sizes with, evaluates them as Python.
    code = f"__import__('pathlib').Path({str(trace)!r}).touch()"

    def plant(item: dict[str, Any]) -> None:
        if "expr_str" in item:
            item["expr_str"] = code

    def edit(record: str, data: bytes) -> bytes:
        if not record.endswith("models/model.json"):
            return data
        return rewritten(json.loads(data), plant)

    bad = edited(model, edit)
    assert code.encode() in zipfile.ZipFile(bad).read("model/models/model.json")
    with pytest.raises(InputError):
        read_program(bad)
    assert not trace.exists()


def test_an_enum_whose_module_would_be_imported_is_refused(
    model: Path, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted.py").write_text(
        f"import enum, pathlib\npathlib.Path({str(trace)!r}).touch()\n"
        "class Key(enum.Enum):\n    A = 1\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    enum = json.dumps([{"__enum__": True, "fqn": "planted:Key", "name": "A"}])

    def plant(item: dict[str, Any]) -> None:
        if "out_spec" in item:
            leaf = {"type": None, "context": None, "children_spec": []}
            outputs = {"type": "builtins.dict", "context": enum, "children_spec": [leaf]}
            item["out_spec"] = json.dumps([1, outputs])

    def edit(record: str, data: bytes) -> bytes:
        is_model = record.endswith("models/model.json")
        return rewritten(json.loads(data), plant) if is_model else data

    bad = edited(model, edit)
    with pytest.raises(InputError, match="'planted:Key' of an enum, whose module would be"):
        read_program(bad)
    assert not trace.exists()
    torch.export.load(bad)
    assert trace.exists()  # where nothing is checked


def test_an_operator_that_is_a_python_function_is_refused(model: Path) -> None:
    def plant(item: dict[str, Any]) -> None:
        if str(item.get("target", "")).startswith("torch.ops.aten.linear"):
            item["target"] = "torch.os.system"

    def edit(record: str, data: bytes) -> bytes:
        if not record.endswith("models/model.json"):
            return data
        return rewritten(json.loads(data), plant)

    bad = edited(model, edit)
    assert b"torch.os.system" in zipfile.ZipFile(bad).read("model/models/model.json")
    with pytest.raises(InputError):
        read_program(bad)


@pytest.mark.parametrize("config", [b"{cut off", b"[]", b'{"config": []}', b"\xff"])
def test_a_damaged_config_is_an_input_error(config: bytes, model: Path) -> None:
    with pytest.raises(InputError, match=r"edited-model\.pt2"):
        read_program(edited(model, replacing("weights_config.json", config)))


def test_two_records_of_one_name_are_refused(model: Path) -> None:
    record = zipfile.ZipFile(model).namelist()[0]
    with zipfile.ZipFile(model, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(record, b"another")
    with pytest.raises(InputError, match="two records of one name"):
        read_program(model)


def test_a_damaged_record_is_an_input_error(model: Path) -> None:
    data = bytearray(model.read_bytes())
    data[200:1200] = bytes(1000)
    model.write_bytes(data)
    with pytest.raises(InputError):
        read_program(model)


# Batches


def test_batches_are_read_as_tuples_of_tensors(tmp_path: Path) -> None:
    path, x = tmp_path / "data.pt", torch.tensor([1.0])
    torch.save([(x, x), [x], x], path)
    assert read_batches(path) == [(x, x), (x,), (x,)]


def test_batches_that_are_code_are_not_run(tmp_path: Path, trace: Path) -> None:
    path = tmp_path / "data.pt"
    torch.save([Payload(trace)], path)
    with pytest.raises(InputError, match="cannot be read as tensors alone"):
        read_batches(path)
    assert not trace.exists()


@pytest.mark.parametrize("value", [torch.zeros(2), {"x": torch.zeros(2)}], ids=["tensor", "dict"])
def test_batches_must_be_a_list(value: object, tmp_path: Path) -> None:
    path = tmp_path / "data.pt"
    torch.save(value, path)
    with pytest.raises(InputError, match=f"holds a {type(value).__name__}; expected a list"):
        read_batches(path)


def test_a_file_of_stray_bytes_has_no_batches(tmp_path: Path) -> None:
    path = tmp_path / "data.pt"
    path.write_bytes(b"no tensors here")
    with pytest.raises(InputError, match="Save a list of tuples of tensors"):
        read_batches(path)


# Writing


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "program"
    for data in (b"first", b"second"):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text, which is no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "program", "text")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", [".", "missing/program", "file/program", "n" * 400])
def test_a_path_that_cannot_be_written_is_an_input_error(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a file, not a folder")
    for write in (check_writable, lambda path: write_atomically(path, b"data")):
        with pytest.raises(InputError, match=r"cannot be written|is a folder"):
            write(tmp_path / where)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "program"
    with pytest.raises(InputError) as raised:
        check_writable(path)
    why = f"there is no folder {path.parent}. Create it, or name another one"
    assert str(raised.value) == f"{path} cannot be written: {why}"


def test_checking_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(b"old")
    check_writable(path)
    check_writable(tmp_path / "new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"
