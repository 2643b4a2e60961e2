"""Export from torch to ONNX; nodes keep the names of the annotated graph."""

from __future__ import annotations

import logging
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qreg.errors import LoweringError
from qreg.graph.provenance import described, origin
from qreg_onnxruntime.compat import fx_node_name, translations_read_once, untranslated
from qreg_onnxruntime.translations import dynamic

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

SEPARATOR = "::"  # between the origin of a node and its operator


def export(program: ExportedProgram, opset: int) -> Any:
    """Export a program to an ``onnx.ModelProto`` whose nodes are named after their origins.

    Raises ``LoweringError``, which lists the operators that torch.onnx has no translation for.
    """
    import torch

    try:
        with _quiet(), translations_read_once():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=opset,
                verbose=False,
                custom_translation_table=dynamic(),
                output_names=_output_names(program),
            )
    except torch.onnx.OnnxExporterError as cause:
        raise LoweringError(_what_failed(program, cause)) from cause
    assert exported is not None
    assert exported.exported_program is not None
    model = exported.model_proto
    _name_by_origin(model, exported.exported_program)
    _forget_wrong_types(model)
    return model


def _what_failed(program: ExportedProgram, cause: BaseException) -> str:
    names = untranslated(cause)
    places = [described(node) for node in program.graph.nodes if str(node.target) in names]
    what = ", ".join(places or names)
    if not what:
        return f"torch.onnx does not export the program: {cause}"
    return f"torch.onnx has no translation for {what}. Replace it with operators that ONNX supports"


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings and logs during an export.

    torch.onnx of torch 2.13 warns about a missing torchvision and about its own deprecations;
    onnxscript 0.7 logs what it does not fold.
    """
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _output_names(program: ExportedProgram) -> list[str]:
    count = len(program.graph_signature.output_specs)
    return ["output"] if count == 1 else [f"output_{number}" for number in range(count)]


def _name_by_origin(model: Any, program: ExportedProgram) -> None:
    """Name each node after the operator it comes from.

    Other metadata that torch records, such as source lines of the user's files, is removed.
    """
    counts: Counter[str] = Counter()
    sources = {node.name: node for node in program.graph.nodes}
    read = _read(model, sources)
    for node in model.graph.node:
        source = sources.get(fx_node_name(node) or "")
        known = origin(source) if source else _most(read[name] for name in node.output)
        name = f"{known}{SEPARATOR}{node.op_type}" if known else node.op_type
        node.name = f"{name}_{counts[name]}" if counts[name] else name
        counts[name] += 1
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
