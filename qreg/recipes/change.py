"""A change of an algorithm as plain values and the bytes of a .safetensors file, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from qreg.plugins.types.algorithm import Change


def written_change(change: Change) -> tuple[dict[str, Any], bytes]:
    """Return what is plain of a change, as JSON has it, and the file of its tensors."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {f"constants/{at}": each for at, each in change.constants.items()}
    if change.range is not None:
        tensors |= dict(zip(("low", "high"), change.range, strict=True))
    if change.scale is not None:
        tensors["scale"] = change.scale
    whole = {name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}
    plain = {
        "node": change.node,
        "constants": [*change.constants],
        "in_float": change.in_float,
        "readers": [*change.readers],
    }
    return plain, bytes(save(whole))


def read_change(plain: Mapping[str, Any], content: bytes) -> Change:
    """Return a change from :func:`written_change`."""
    from safetensors.torch import load

    from qreg.plugins.types.algorithm import Change

    tensors = load(content)
    return Change(
        plain["node"],
        constants={at: tensors[f"constants/{at}"] for at in plain["constants"]},
        range=(tensors["low"], tensors["high"]) if "low" in tensors else None,
        scale=tensors.get("scale"),
        in_float=plain["in_float"],
        readers=plain.get("readers", ()),
    )
