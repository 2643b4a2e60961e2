"""Name the types in the inputs and outputs of a model that torch.export cannot take apart."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from qreg.inputs.binding import Arguments

KNOWN = (torch.Tensor, bool, int, float, complex, str, type(None))
REMEDY = (
    "Register it with torch.export.register_dataclass, or torch.utils._pytree for a class that is "
    "no dataclass, or use a dict or a tuple."
)


def unknown_type(model: torch.nn.Module, example: Arguments) -> str | None:
    """Return a sentence on the first such type, with the way out, or None if there is none.

    A copy of the model is run on the example inputs.
    """
    args, keywords = example
    found = _unknown([args, keywords])
    if found:
        return f"The example inputs hold {found}, which is not a registered type. {REMEDY}"
    try:
        with torch.no_grad():
            outputs = copy.deepcopy(model).eval()(*args, **keywords)
    except Exception:  # the error of torch.export has the same cause
        return None
    found = _unknown(outputs)
    return f"The model returns {found}, which is not a registered type. {REMEDY}" if found else None


def _unknown(values: Any) -> str | None:
    leaves: Iterable[Any] = pytree.tree_leaves(values)
    names = (type(leaf).__name__ for leaf in leaves if not isinstance(leaf, KNOWN))
    name = next(names, None)
    return None if name is None else f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
