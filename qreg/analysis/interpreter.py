"""Interpreter that reports the output of each operator, by its name in the annotated graph.

Operators that share a name, such as the steps of a recurrent layer, are numbered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from qreg.graph.by_rows import ByRows
from qreg.graph.late import with_late_weights
from qreg.graph.mutation import keeping_state
from qreg.graph.provenance import numbered, row
from qreg.inputs.specs import cloned


class Watching(ByRows):
    """Call ``seen`` with the name and the output of every operator with a floating-point tensor."""

    def __init__(self, module: GraphModule, seen: Callable[[str, Tensor], None]) -> None:
        module = with_late_weights(module)
        super().__init__(module)
        self._seen, self._names = seen, numbered(module.graph)

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        name = self._names.get(n)
        if name is not None and isinstance(result, Tensor) and result.is_floating_point():
            self._seen(name, result)
        return result


class _Found(Exception):
    """Raised to end a pass at the operator that was searched for."""

    def __init__(self, name: str) -> None:  # fx appends the location to the exception's args
        self.name = name


def first_nan(model: GraphModule, sample: tuple[Any, ...]) -> str | None:
    """Return the first operator whose output is NaN for a sample, or None.

    Raises what the model raises.
    """

    def check(name: str, value: Tensor) -> None:
        if value.isnan().any():
            raise _Found(name)

    try:
        with torch.no_grad(), keeping_state(model):
            Watching(model, check).run(*cloned(sample))
    except _Found as found:
        return row(found.name)
    return None
