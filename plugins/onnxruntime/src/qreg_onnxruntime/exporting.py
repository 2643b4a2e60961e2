"""Export from torch to ONNX; nodes keep the names of the annotated graph."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from qreg.backends.naming import UniqueNames, not_converted, output_names
from qreg.backends.patching import quiet
from qreg.backends.unsupported import unsupported
from qreg.graph.provenance import origin
from qreg_onnxruntime.compat import (
    decomposed,
    fx_node_name,
    translations_read_once,
    untranslated,
    views_of_any_strides,
)
from qreg_onnxruntime.translations import translations

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

# torch.onnx of torch 2.13 warns about a missing torchvision and about its own deprecations;
# onnxscript 0.7 logs what it does not fold.
LOGGERS = ("torch.onnx", "onnxscript")


def export(program: ExportedProgram, opset: int) -> Any:
    """Export a program to an ``onnx.ModelProto`` whose nodes are named after their origins.

    Raises ``LoweringError``, which lists the operators that torch.onnx has no translation for.
    """
    import torch

    try:
        with quiet(*LOGGERS), translations_read_once(), views_of_any_strides():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=opset,
                verbose=False,
                custom_translation_table=translations(),
                output_names=output_names(len(program.graph_signature.output_specs)),
            )
    except torch.onnx.OnnxExporterError as cause:
        missing = untranslated(cause)
        if not missing:
            raise not_converted("torch.onnx", program.graph, missing, cause) from cause
        programs = (lambda: program, partial(decomposed, program, opset))
        raise unsupported("torch.onnx has no conversion", programs, missing) from cause
    assert exported is not None
    assert exported.exported_program is not None
    model = exported.model_proto
    _name_by_origin(model, exported.exported_program)
    _forget_wrong_types(model)
    return model


def _name_by_origin(model: Any, program: ExportedProgram) -> None:
    """Name each node after the operator it comes from.

    Other metadata that torch records, such as source lines of the user's files, is removed.
    """
    names = UniqueNames()
    sources = {node.name: node for node in program.graph.nodes}
    read = _read(model, sources)
    for node in model.graph.node:
        source = sources.get(fx_node_name(node) or "")
        known = origin(source) if source else _most(read[name] for name in node.output)
        node.name = names.name(known, node.op_type)
        del node.metadata_props[:]


def _most(origins: Iterable[str | None]) -> str | None:
    """Return the most frequent origin.

    If an output of a split is added to zero, the origin of that output is the sum.
    """
    found = Counter(filter(None, origins)).most_common(1)
    return found[0][0] if found else None


def _read(model: Any, sources: Mapping[str, Node]) -> dict[str, str | None]:
    """Return the origins of the values that torch's nodes read, by their names in the model.

    They replace sources that torch.onnx does not record, such as that of a split. The inputs of a
    node are in the order of its arguments if the node is elementwise or quantizes.
    """
    from torch.fx import Node

    found: dict[str, str | None] = defaultdict(lambda: None)
    for node in model.graph.node:
        source = sources.get(fx_node_name(node) or "")
        for name, argument in zip(node.input, source.args if source else (), strict=False):
            if isinstance(argument, Node):
                found.setdefault(name, origin(argument))
    return found


def _forget_wrong_types(model: Any) -> None:
    """Remove the dtypes recorded for dynamic qparams: the scale is double in torch, not in ONNX."""
    chosen = {
        name
        for node in model.graph.node
        if node.op_type == "DynamicQuantizeLinear"
        for name in node.output
    }
    kept = [value for value in model.graph.value_info if value.name not in chosen]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
