"""What to do with a tensor of another dtype or shape than the one that is expected.

Dtypes are torch's names, with or without ``torch.``; this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qreg.utils.shapes import fits

Sizes = Sequence[int | None]

CASTS = {
    **{"float32": ".float()", "float64": ".double()", "float16": ".half()"},
    **{"bfloat16": ".bfloat16()", "int64": ".long()", "int32": ".int()", "int16": ".short()"},
    **{"int8": ".char()", "uint8": ".byte()", "bool": ".bool()"},
}
ANY_SIZE = "{0: torch.export.Dim('batch')}"
ORDERS = ((2, 0, 1), (0, 3, 1, 2), (1, 2, 0), (0, 2, 3, 1))  # channels first, or last
OF_ARRAYS = {
    **{call: f'.astype("{name}")' for name, call in CASTS.items()},
    **{".unsqueeze(0)": "[None]", ".squeeze(0)": "[0]"},
    **{".permute(": ".transpose(", "torch.stack": "numpy.stack"},
}
OTHERWISE = "Give it that shape, or export the model with dynamic_shapes=."


def cast(wanted: str) -> str:
    """Return the call that converts a tensor to a dtype."""
    name = wanted.removeprefix("torch.")
    return CASTS.get(name, f".to(torch.{name})")


def for_array(remedy: str) -> str:
    """Return a remedy with the calls of numpy in place of those of tensors."""
    for call, of_array in OF_ARRAYS.items():
        remedy = remedy.replace(call, of_array)
    return remedy


def dtype_remedy(given: str, wanted: str) -> str:
    """Return how to convert a tensor; integers such as pixels are scaled too."""
    scaled = "int" in given and "float" in wanted
    return f"Convert it with {cast(wanted)}{', scaled as for the float model' if scaled else ''}."


def shape_remedy(given: Sequence[int], wanted: Sizes) -> str:
    """Return how to give a tensor the wanted shape."""
    return next(_shape_remedies(given, wanted), OTHERWISE)


def _shape_remedies(given: Sequence[int], wanted: Sizes) -> Iterator[str]:
    if fits((1, *given), wanted):
        yield "Add the batch dimension with .unsqueeze(0)."
    elif fits(given, wanted[1:]):
        yield (
            f"The batch dimension is missing: stack {wanted[0]} with torch.stack, or add it with "
            ".unsqueeze(0) and export the model with a batch of 1 or with dynamic_shapes=."
        )
    if given and fits(given[1:], wanted):
        yield (
            "The model was exported without this first dimension: export it with an example that "
            f"has it, such as .unsqueeze(0) adds, or {_one_by_one(given[0])}."
        )
    if len(given) == len(wanted) and fits(given[1:], wanted[1:]):
        yield (
            f"Export the model with dynamic_shapes=, {ANY_SIZE} for this input, or give every "
            "batch that size; a DataLoader drops a smaller last one with drop_last=True."
        )
    order = permuted(given, wanted)
    if order:
        yield f"Reorder its dimensions with .permute{order}."


def _one_by_one(rows: int) -> str:
    return "drop it with .squeeze(0)" if rows == 1 else "pass its rows one at a time"


def permuted(given: Sequence[int], wanted: Sizes) -> tuple[int, ...] | None:
    """Return the order of dimensions that moves the channels of an image to their place."""
    for order in ORDERS:
        if len(order) == len(given) and fits([given[at] for at in order], wanted):
            return order
    return None
