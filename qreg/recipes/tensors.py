"""A record as the bytes of a .safetensors file, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qreg.errors import RecipeError
from qreg.recipes.steps import read_steps, written_steps

if TYPE_CHECKING:
    from torch import Tensor

    from qreg.recipes.record import Record

KEY = "qreg"  # of the metadata; a single one, since safetensors writes several in any order


def written_record(record: Record) -> bytes:
    """Return the file of a record, the same bytes for equal records."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for name, each in record.qparams.items():
        values = {"scale": each.scale, "zero_point": each.zero_point}
        ends = {"low": each.low, "high": each.high}
        values |= {end: value for end, value in ends.items() if value is not None}
        tensors |= {f"qparams/{name}/{part}": value for part, value in values.items()}
    steps = written_steps(record.steps, tensors, record.qparams)
    metadata = {
        "constants": dict(record.constants),
        "operators": [list(each) for each in record.operators],
        "qparams": list(record.qparams),
        "steps": steps,
        "data": None if record.data is None else [record.data.batches, record.data.sha256],
    }
    whole = {name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}
    return bytes(save(whole, {KEY: json.dumps(metadata)}))


def read_record(data: bytes, path: Path) -> Record:
    """Return the record in the bytes of a file. Raises ``RecipeError`` for another file."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    from qreg.inputs.fingerprint import Fingerprint
    from qreg.recipes.pinned import QParams
    from qreg.recipes.record import Record

    try:
        tensors = load(data)
        metadata = json.loads(_header(data)["__metadata__"][KEY])
        qparams = {
            name: QParams(
                tensors[f"qparams/{name}/scale"],
                tensors[f"qparams/{name}/zero_point"],
                tensors.get(f"qparams/{name}/low"),
                tensors.get(f"qparams/{name}/high"),
            )
            for name in metadata["qparams"]
        }
        return Record(
            constants=metadata["constants"],
            operators=tuple((node, name, module) for node, name, module in metadata["operators"]),
            steps=read_steps(metadata["steps"], tensors, qparams),
            qparams=qparams,
            data=Fingerprint(*metadata["data"]) if metadata["data"] else None,
        )
    except (SafetensorError, AttributeError, LookupError, TypeError, ValueError) as cause:
        raise RecipeError(f"{path} does not hold the values of a recipe: {cause!r}") from cause


def _header(data: bytes) -> dict[str, Any]:
    """Return the header of a .safetensors file: JSON after its length in 8 bytes."""
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    return header
