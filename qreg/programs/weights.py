"""Reject weights that are quantized already, or in a type that no observer accepts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.export import ExportedProgram

from qreg.errors import InputError
from qreg.programs.models import check_model


def check_weights(
    model: torch.nn.Module | ExportedProgram, dtypes: Sequence[str], *, allow_float: bool = False
) -> None:
    """Raise ``InputError`` for a model whose weights cannot be quantized, or for another object.

    ``dtypes`` are those that the backend quantizes from; ``allow_float`` accepts others.
    """
    check_model(model)
    weights = dict(model.named_parameters())
    for name, weight in weights.items():
        if hasattr(type(weight), "__tensor_flatten__"):  # a subclass that holds several tensors
            raise InputError(
                f"model: its weight {name!r} is a {type(weight).__name__}, which is quantized "
                "already (expected a plain tensor). Pass the model as it was before quantize_()."
            )
    floats = {name: str(each.dtype) for name, each in weights.items() if each.is_floating_point()}
    if floats and not allow_float and not set(floats.values()) & set(dtypes):
        name, found = next(iter(floats.items()))
        short = found.removeprefix("torch.")
        wanted = " or ".join(each.removeprefix("torch.") for each in dtypes)
        raise InputError(
            f"model: its weights are in {short}, such as {name!r} (expected {wanted}, which the "
            "backend quantizes). Export model.float(), with inputs of that type; wrap a language "
            "model after that, since its cache has the type of the model."
        )
