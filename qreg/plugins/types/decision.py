"""The decision of the quantizer on one operator."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

Status: TypeAlias = Literal["annotated", "shared", "float"]


@frozen
class Decision:
    """The decision on one operator of the graph, and the reason for it.

    ``status`` is ``"annotated"`` (the operator has separate specs), ``"shared"`` (its output shares
    the qparams of its input) or ``"float"``. ``pattern`` are the names of the nodes that were
    annotated together. ``module``, ``operator`` and ``ordinal`` address the operator:
    ``RegistryQuantizer.set_operator`` accepts them. ``ordinal`` counts the calls of the operator in
    the module from 0, in the order of the graph; it is -1 for an operator that an algorithm
    inserted, which no scope addresses.
    """

    node: str
    operator: str
    module: str
    status: Status
    reason: str
    annotator: str | None = None
    distribution: str | None = None
    config: str | None = None
    pattern: tuple[str, ...] = ()
    ordinal: int = 0

    @property
    def quantized(self) -> bool:
        return self.status != "float"
