"""Read programs and batches from files without executing code in them.

``torch.export.load`` unpickles some records of a ``.pt2`` archive without restriction (torch 2.13).
A program of plain tensors needs none of these records, so an archive that has one is rejected.
"""

from __future__ import annotations

import ast
import builtins
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qreg.errors import InputError
from qreg.programs.foreign_types import with_known_types
from qreg.programs.recognition import BATCHES, PROGRAM, recognized, wrong

if TYPE_CHECKING:
    from torch.export import ExportedProgram


ARITHMETIC = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Name),
    *(ast.Constant, ast.keyword, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
    ast.expr_context,
)
NOT_PT2 = "is not a .pt2 file"


def read_program(path: Path) -> ExportedProgram:
    """Read a program written by ``torch.export.save``, without executing any code in the file.

    Types of inputs and outputs that are not registered in this process are read as tuples.

    Raises ``InputError`` for a file that is missing, is not a ``.pt2`` archive, or can only be read
    by unpickling.
    """
    import torch

    _check_exists(path, PROGRAM)
    _check_archive(path)
    try:
        return torch.export.load(with_known_types(path))
    except Exception as cause:  # torch.export.load raises errors of many classes
        raise InputError(
            f"{path} is not a program that torch.export.load can read: {cause}"
        ) from cause


def read_bytes(path: Path) -> bytes:
    """Read a file. Raises ``InputError`` if it is missing."""
    _check_exists(path)
    return path.read_bytes()


def read_batches(path: Path) -> list[Any]:
    """Read a list of batches written by ``torch.save``: tuples, dicts by name, or pairs of both.

    A lone tensor is accepted as a tuple of one.

    Raises ``InputError`` for a file that is missing, is not such a list, or needs unpickling.
    """
    import torch

    from qreg.inputs.specs import arguments

    _check_exists(path, BATCHES)
    try:
        batches = torch.load(path, weights_only=True)
    except Exception as cause:  # a damaged file fails in many ways
        fact = "cannot be read as tensors alone"
        raise wrong(path, fact, BATCHES) or InputError(
            f"{path} {fact}: it is damaged, or holds objects that only "
            "unpickling makes. Save a list of tuples of tensors with torch.save."
        ) from cause
    if not isinstance(batches, (list, tuple)):
        found = recognized(path)
        raise InputError(
            f"{path} holds a {type(batches).__name__}; expected a list with one tuple of tensors "
            f"for each batch{f'. It is {found.what}. {found.data}' if found else ''}"
        )
    return [batch if isinstance(batch, dict) else arguments(batch) for batch in batches]


def _check_exists(path: Path, expected: str = "expected a lowered program") -> None:
    if path.is_dir() and (found := wrong(path, "is not a file", expected)):
        raise found
    if not path.is_file():
        missing = "" if path.exists() else ": it does not exist"
        raise InputError(f"{path} is not a file{missing} ({expected})")


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.namelist()
            if not any(record.endswith("archive_format") for record in records):
                raise zipfile.BadZipFile("it has no record of its format")
            if len(set(records)) < len(records):  # two readers may pick different ones
                raise InputError(f"{path} is rejected: it has two records of one name")
            problems = (_danger(archive, record) for record in records)
            if problem := next(filter(None, problems), None):
                raise InputError(f"{path} is rejected: {problem}")
    except InputError:
        raise
    except (zipfile.BadZipFile, ValueError, AttributeError, KeyError, TypeError) as cause:
        raise wrong(path, NOT_PT2, PROGRAM) or InputError(
            f"{path} {NOT_PT2}, or is damaged ({cause}). Write one with "
            "torch.export.save(program, path)."
        ) from cause


def _danger(archive: zipfile.ZipFile, record: str) -> str | None:
    """Return why reading a record would execute code, or None.

    Raises ``ValueError`` or another error for a damaged record.
    """
    name = record.rpartition("/")[2]
    if record == "version" or (name.startswith("serialized_") and record == name):
        return "it has the format of torch 2.7 and older, which is read by unpickling"
    if "aotinductor" in record:
        return f"{record!r} is compiled code"
    if name.endswith(".pt"):
        return _unsafe_tensors(record, archive.read(record))
    if name.endswith("_config.json"):
        payloads = json.loads(archive.read(record))["config"]
        pickled = [key for key, payload in payloads.items() if _is_pickled(payload)]
        return f"{pickled[0]!r} is stored as a pickle, not as a plain tensor" if pickled else None
    if name.endswith(".json"):
        model = json.loads(archive.read(record))
        code, module = next(_code(model), None), next(_imported(model), None)
        if module is not None:
            return f"{record!r} has the key {module!r} of an enum, whose module would be imported"
        return f"{record!r} has a size {code!r}, which is not arithmetic" if code else None
    return None


def _code(value: Any) -> Iterator[str]:
    """Yield the symbolic sizes in a program that are more than arithmetic; torch evaluates all."""
    if isinstance(value, dict):
        size = value.get("expr_str")
        if isinstance(size, str) and not _is_arithmetic(size):
            yield size
    inside = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list)):
        for each in inside:
            yield from _code(each)


def _imported(value: Any) -> Iterator[str]:
    """Yield the enums in the structures of inputs and outputs, which are JSON in strings.

    ``torch.utils._pytree`` (torch 2.13) imports the module that such an enum names.
    """
    if isinstance(value, dict) and "__enum__" in value:
        yield str(value.get("fqn"))
    if isinstance(value, str) and value[:1] in ("[", "{"):
        value = _json_of(value)
    inside = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list)):
        for each in inside:
            yield from _imported(each)


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # another string
        return None


def _is_arithmetic(size: str) -> bool:
    try:
        parts = list(ast.walk(ast.parse(size, mode="eval")))
    except (SyntaxError, ValueError):
        return False
    values = [part.value for part in parts if isinstance(part, ast.Constant)]
    names = [part.id for part in parts if isinstance(part, ast.Name)]
    names += [value for value in values if isinstance(value, str)]  # Symbol('s31')
    return (
        all(isinstance(part, ARITHMETIC) for part in parts)
        and all(isinstance(value, (int, float, str)) for value in values)
        and all(name.isidentifier() and not hasattr(builtins, name) for name in names)
    )


def _is_pickled(payload: dict[str, Any]) -> bool:
    stored_as = str(payload.get("path_name", ""))
    return bool(payload.get("use_pickle")) or stored_as.startswith(("custom_obj", "opaque_obj"))


def _unsafe_tensors(record: str, data: bytes) -> str | None:
    import torch

    if not data:
        return None
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception as cause:  # a record that fails in any way is not safe
        return f"{record!r} could only be read by executing code that is in it ({cause})"
    return None
