"""The qparams of inputs and outputs in the metadata of a model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qreg.graph.boundary import Boundary

KEY = "qreg.quantized_io"


def describe_quantized_io(model: Any, boundary: Boundary) -> None:
    """Write the qparams of the inputs and outputs that are integers to the metadata, as JSON."""
    if not boundary.present:
        return
    graph = model.graph
    inputs, outputs = ([each.name for each in side] for side in (graph.input, graph.output))
    model.metadata_props.add(key=KEY, value=json.dumps(boundary.table(inputs, outputs)))
