"""Convert from torch to OpenVINO; operations keep the names of the annotated graph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qreg.backends.naming import UniqueNames, not_converted, output_names
from qreg.backends.patching import quiet
from qreg.backends.unsupported import unsupported
from qreg.graph.nodes import called
from qreg.graph.operators import ADDMM, CONVOLUTIONS, LINEAR, MATMUL
from qreg.graph.provenance import origin
from qreg_openvino.compat import converted, decomposed, drop_fused_names, fx_node_names, unconverted
from qreg_openvino.packed_constants import pack
from qreg_openvino.passes import as_function
from qreg_openvino.snippets import keep_layers_apart, keep_transposes_apart
from qreg_openvino.weights_in_groups import operators_for_groups, spell_out_groups

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

PRODUCTS = frozenset({"aten.convolution.default", *CONVOLUTIONS, *LINEAR, *ADDMM, *MATMUL})
MODEL = "model"  # OpenVINO's own name for it has a number that differs in each conversion


def convert(program: ExportedProgram) -> Any:
    """Convert a program to an ``openvino.Model`` whose operations are named after their origins.

    Raises ``LoweringError``, which lists the operators that OpenVINO has no conversion for.
    """
    known = decomposed(program, operators_for_groups(program))
    graph_module = as_function(known)
    spell_out_groups(graph_module)
    try:
        with quiet():  # openvino 2025.4 uses names that torch deprecates
            model = converted(graph_module)
    except Exception as cause:  # the frontend's errors share no other base class
        missing = unconverted(cause)
        if not missing:
            raise not_converted("OpenVINO", graph_module.graph, missing, cause) from cause
        raise unsupported("OpenVINO has no conversion", [lambda: known], missing) from cause
    pack(model)
    model = _with_all_inputs(model, graph_module.graph)
    keep_layers_apart(model)
    keep_transposes_apart(model)
    _name_by_origin(model, _origins(graph_module.graph))
    _name_outputs(model)
    return model


def _with_all_inputs(model: Any, graph: Graph) -> Any:
    """Return the model with all inputs of the graph, unused ones included, and with their sizes.

    The frontend of openvino 2025.4 drops unused inputs and makes all sizes dynamic.
    """
    import openvino

    # If an operation returns its input, such as x * 1, the input has the operation's name too.
    parameters = model.get_parameters()
    found = {name: each for each in parameters for name in each.output(0).get_names()}
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    parameters = [found.get(str(node.target)) or _parameter(node) for node in inputs]
    for parameter, node in zip(parameters, inputs, strict=True):
        parameter.set_partial_shape(openvino.PartialShape(_sizes(node.meta["val"])))
    complete = openvino.Model(model.get_results(), parameters, MODEL)
    complete.validate_nodes_and_infer_types()
    return complete


def _parameter(node: Node) -> Any:
    import openvino
    import torch

    value = torch.empty((), dtype=node.meta["val"].dtype).numpy()
    made = openvino.op.Parameter(openvino.Type(value.dtype), openvino.PartialShape.dynamic())
    made.set_friendly_name(str(node.target))
    made.output(0).get_tensor().add_names({str(node.target)})
    return made


def _sizes(value: Any) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in value.shape]


def _origins(graph: Graph) -> dict[str, str]:
    """Return the origins of nodes by name, those of compute operators first."""
    nodes = sorted(graph.nodes, key=lambda node: called(node) not in PRODUCTS)
    found = {node.name: origin(node) for node in nodes}
    return {name: known for name, known in found.items() if known}


def _name_by_origin(model: Any, origins: Mapping[str, str]) -> None:
    """Name operations by their origins, and number the others by their place in the model.

    An operation that replaces several is named after the compute operator among them. OpenVINO
    numbers operations without a name across the process, so that converting one program twice
    would give different bytes.
    """
    names, ranks = UniqueNames(), {name: rank for rank, name in enumerate(origins)}
    for number, operation in enumerate(model.get_ordered_ops()):
        kind = operation.get_type_name()
        known = min(ranks.keys() & fx_node_names(operation), key=ranks.__getitem__, default=None)
        if known is not None:
            operation.set_friendly_name(names.name(origins[known], kind))
        elif re.fullmatch(r"[A-Za-z]+_\d+", operation.get_friendly_name()):
            operation.set_friendly_name(f"{kind}_{number}")
    drop_fused_names(model)


def _name_outputs(model: Any) -> None:
    for name, port in zip(output_names(len(model.outputs)), model.outputs, strict=True):
        port.get_tensor().add_names({name})
