"""Name the operator at which a model fails on the data of a user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node

from qreg.errors import CalibrationError, QregError
from qreg.graph.mutation import keeping_state
from qreg.graph.provenance import described, in_code
from qreg.inputs.batches import BATCH
from qreg.inputs.specs import cloned

REMEDY = "Check that the float model runs on these inputs, and correct them."


class _Failed(Exception):
    """Raised to end a pass at the operator that fails."""

    def __init__(self, node: Node) -> None:  # fx appends the location to the exception's args
        self.node = node


class _Locating(Interpreter):
    def run_node(self, n: Node) -> Any:
        try:
            return super().run_node(n)
        except Exception as cause:  # raised by the operator
            raise _Failed(n) from cause


@contextmanager
def naming_failure(
    model: GraphModule, sample: tuple[Any, ...], number: int | None, what: str = BATCH
) -> Iterator[None]:
    """Replace an error that ``model`` raises on a sample by one that names operator and batch.

    Raises ``CalibrationError`` if an operator of the model fails on the sample again, as an
    embedding does on an index outside of its table, and otherwise the error as it is.
    """
    try:
        yield
    except QregError:
        raise
    except Exception as cause:  # raised by the model
        node = _failing(model, sample)
        if node is None or node.op != "call_function":
            raise
        raised = f"{type(cause).__name__}: {str(cause).splitlines()[0].rstrip('.')}"
        where = f"{what}: " if number is None else ""
        problem = f"{where}{described(node)}{in_code(node)}, raised {raised}. {REMEDY}"
        raise CalibrationError(problem, number, what=what) from cause


def _failing(model: GraphModule, sample: tuple[Any, ...]) -> Node | None:
    try:
        with torch.no_grad(), keeping_state(model):
            _Locating(model).run(*cloned(sample))
    except _Failed as failed:
        return failed.node
    return None
