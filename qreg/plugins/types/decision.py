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
    annotated together.
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

    @property
    def quantized(self) -> bool:
        return self.status != "float"
