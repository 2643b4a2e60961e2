"""Several torchao quantizers as one."""

from __future__ import annotations

from typing import Any

from torch.fx import GraphModule
from torchao.quantization.pt2e.quantizer import Quantizer


class ComposedQuantizer(Quantizer):  # type: ignore[misc]
    """Several quantizers as one: each annotates what the previous ones have left.

    Unlike torchao's ``ComposableQuantizer`` (0.18) it also calls ``validate`` and
    ``prepare_obs_or_fq_callback`` of each part. A part must skip nodes that are annotated already,
    as the quantizers of qreg do.
    """

    def __init__(self, *parts: Quantizer) -> None:
        self.parts = parts

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        for part in self.parts:
            model = part.transform_for_annotation(model)
        return model

    def annotate(self, model: GraphModule) -> GraphModule:
        for part in self.parts:
            model = part.annotate(model)
        return model

    def validate(self, model: GraphModule) -> None:
        for part in self.parts:
            part.validate(model)

    def prepare_obs_or_fq_callback(
        self, model: GraphModule, edge_or_node_to_obs_or_fq: dict[Any, Any]
    ) -> None:
        for part in self.parts:
            part.prepare_obs_or_fq_callback(model, edge_or_node_to_obs_or_fq)
