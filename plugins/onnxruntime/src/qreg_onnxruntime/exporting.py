"""From torch to ONNX, with the names of the annotated graph on the nodes of the model."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qreg.errors import LoweringError
from qreg.origins import origin
from qreg_onnxruntime.checks import described
from qreg_onnxruntime.compat import fx_node_name, untranslated
from qreg_onnxruntime.translations import dynamic

if TYPE_CHECKING:
    from torch.export import ExportedProgram

SEPARATOR = "::"  # between the origin of a node and its operator


def export(program: ExportedProgram, opset: int) -> Any:
    """The ``onnx.ModelProto`` of a program, its nodes named by their origins.

    Raises ``LoweringError`` that names the operators which torch.onnx has no translation for.
    """
    import torch

    try:
        with _quiet():
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
    _name_by_origin(model, _origins(exported.exported_program))
    _forget_wrong_types(model)
    return model


def _what_failed(program: ExportedProgram, cause: BaseException) -> str:
    names = untranslated(cause)
    places = [described(node) for node in program.graph.nodes if str(node.target) in names]
    what = ", ".join(places or names)
    if not what:
        return f"torch.onnx does not export the program: {cause}"
    return f"torch.onnx has no translation for {what}: replace it by operators that ONNX has"


@contextmanager
def _quiet() -> Iterator[None]:
    """For the time of an export.

    torch.onnx of torch 2.13 warns of a missing torchvision and of its own deprecations, onnxscript
    0.7 of what it does not fold.
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


def _origins(program: ExportedProgram) -> dict[str, str]:
    found = {node.name: origin(node) for node in program.graph.nodes}
    return {name: known for name, known in found.items() if known}


def _name_by_origin(model: Any, origins: dict[str, str]) -> None:
    """Names each node after the operator it comes from.

    What torch notes down of each besides, as the lines of the user's files, stays out of the file.
    """
    counts: Counter[str] = Counter()
    for node in model.graph.node:
        known = origins.get(fx_node_name(node) or "")
        name = f"{known}{SEPARATOR}{node.op_type}" if known else node.op_type
        node.name = f"{name}_{counts[name]}" if counts[name] else name
        counts[name] += 1
        del node.metadata_props[:]


def _forget_wrong_types(model: Any) -> None:
    """torch takes the scale of a dynamic quantization for a double, ONNX for a float."""
    chosen = {
        name
        for node in model.graph.node
        if node.op_type == "DynamicQuantizeLinear"
        for name in node.output
    }
    kept = [value for value in model.graph.value_info if value.name not in chosen]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
