"""Read the arrays of an ``.npz`` as tensors, without numpy and without executing code in it.

The format of numpy 1.0: a zip of ``.npy`` files, each with a magic number, the length of a header,
the header, which is a Python literal, and the values.
"""

from __future__ import annotations

import ast
import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from qreg.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

MAGIC = b"\x93NUMPY"
DTYPES = {
    **{"f2": "float16", "f4": "float32", "f8": "float64", "b1": "bool", "u1": "uint8"},
    **{"i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64"},
}


def read_npz(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a file by their names.

    Raises ``InputError`` for a file that is damaged, and for an array of objects or of another
    dtype that tensors do not have.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            return {name.removesuffix(".npy"): _tensor(archive.read(name)) for name in names}
    except (zipfile.BadZipFile, ValueError, KeyError, SyntaxError, TypeError, OSError) as cause:
        raise InputError(
            f"{path} cannot be read as arrays alone: {cause} (expected what numpy.savez wrote, "
            "with numbers)"
        ) from cause


def _tensor(data: bytes) -> Tensor:
    import torch

    if data[:6] != MAGIC:
        raise ValueError("a record is not an array")
    start = 10 if data[6] == 1 else 12
    end = start + int.from_bytes(data[8:start], "little")
    header = ast.literal_eval(data[start:end].decode("latin1"))
    order, name = header["descr"][0], header["descr"][1:]
    if name not in DTYPES or order == ">":
        raise ValueError(f"the dtype {header['descr']!r} is not one of tensors")
    dtype, shape = getattr(torch, DTYPES[name]), tuple(header["shape"])
    if not math.prod(shape):
        return torch.empty(shape, dtype=dtype)
    flat = torch.frombuffer(bytearray(data[end:]), dtype=dtype)
    if header["fortran_order"]:
        return flat.reshape(shape[::-1]).permute(*reversed(range(len(shape)))).contiguous()
    return flat.reshape(shape)
