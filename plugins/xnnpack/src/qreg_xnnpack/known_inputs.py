"""Look up the inputs of a program in tables that are kept while the program is only read.

torch (2.13.0) goes through all inputs whenever it is asked which of them are parameters or buffers.
executorch (1.4.1) asks for each input of each operator, so that a lowering took a time that is
quadratic in the number of operators.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import Factory, define

from qreg.backends.patching import patched

if TYPE_CHECKING:
    from torch.export import ExportGraphSignature

TABLES = ("inputs_to_parameters", "inputs_to_buffers", "inputs_to_lifted_tensor_constants")


@define
class Reading:
    """The signature of the program that is only read now, and its tables by name."""

    signature: ExportGraphSignature | None = None
    tables: dict[str, Any] = Factory(dict)

    def of(self, signature: ExportGraphSignature | None) -> None:
        """Keep the tables of this signature from now on; None keeps no tables."""
        self.signature, self.tables = signature, {}


def inputs_known() -> AbstractContextManager[None]:
    """Keep the tables of a program that is partitioned or serialized, during a lowering."""
    from executorch.backends.xnnpack._passes import XNNPACKPassManager
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend
    from torch.export import ExportGraphSignature

    reading = Reading()
    return patched(
        *((ExportGraphSignature, name, partial(_kept, reading, name)) for name in TABLES),
        (XnnpackPartitioner, "partition", partial(_while_partitioned, reading)),
        # The delegate's passes change its program; afterwards, it is serialized.
        (XNNPACKPassManager, "transform", partial(_once_transformed, reading)),
        (XnnpackBackend, "preprocess", partial(_until_serialized, reading)),
    )


def _kept(reading: Reading, name: str, table: property) -> property:
    def lookup(signature: ExportGraphSignature) -> Any:
        if signature is not reading.signature:
            return table.__get__(signature)
        if name not in reading.tables:
            reading.tables[name] = table.__get__(signature)
        return reading.tables[name]

    return property(lookup)


def _while_partitioned(reading: Reading, partition: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(itself: Any, program: Any) -> Any:
        reading.of(program.graph_signature)
        try:
            return partition(itself, program)
        finally:
            reading.of(None)

    return replacement


def _once_transformed(reading: Reading, transform: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(itself: Any) -> Any:
        program = transform(itself)
        reading.of(program.graph_signature)
        return program

    return replacement


def _until_serialized(reading: Reading, preprocess: Callable[..., Any]) -> staticmethod[..., Any]:
    def replacement(*arguments: Any) -> Any:
        try:
            return preprocess(*arguments)
        finally:
            reading.of(None)

    return staticmethod(replacement)
