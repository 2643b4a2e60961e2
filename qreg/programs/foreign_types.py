"""Read archives of programs whose inputs and outputs have types that this process does not know.

The types of a model's outputs, such as those of transformers, are named in the archive, and
``torch.export.load`` (torch 2.13) fails unless the modules that define them have been imported. The
command line imports no modules of a model: it reads such types as tuples.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMEDTUPLE = "collections.namedtuple"


def with_known_types(path: Path) -> Path | io.BytesIO:
    """Return the path of an archive, or a copy of the archive with unknown types as tuples."""
    with zipfile.ZipFile(path) as archive:
        found = dict(_rewritten(archive))
        if not found:
            return path
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as written:
            for name in archive.namelist():
                written.writestr(name, found[name] if name in found else archive.read(name))
    copy.seek(0)
    return copy


def _rewritten(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Yield the records of models that name unknown types, with tuples in place of those."""
    for name in archive.namelist():
        if name.endswith(".json") and "/models/" in f"/{name}":
            model = json.loads(archive.read(name))
            replaced = list(map(_replaced, _signatures(model)))
            if any(replaced):
                yield name, json.dumps(model)


def _signatures(model: Any) -> Iterator[dict[str, Any]]:
    for entry in model["graph_module"]["module_call_graph"]:
        if entry["signature"] is not None:
            yield entry["signature"]


def _replaced(signature: dict[str, Any]) -> bool:
    """Rewrite the structures of a signature, and return whether they had unknown types."""
    changed = False
    for key in ("in_spec", "out_spec"):
        version, structure = json.loads(signature[key])
        replaced = list(map(_as_tuple, _nodes(structure)))
        if any(replaced):
            signature[key] = json.dumps([version, structure])
            changed = True
    return changed


def _nodes(structure: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield structure
    for child in structure["children_spec"]:
        yield from _nodes(child)


def _as_tuple(node: dict[str, Any]) -> bool:
    """Make a node a tuple if its type is unknown, and return whether it was."""
    from torch.utils._pytree import SERIALIZED_TYPE_TO_PYTHON_TYPE as KNOWN

    name = node["context"] if node["type"] == NAMEDTUPLE else node["type"]
    if name is None or name in KNOWN:
        return False
    node.update(type="builtins.tuple", context="null")
    return True
