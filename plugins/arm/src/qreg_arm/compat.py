"""Names that executorch and tosa-tools keep private, in the one place that knows them.

Each with the version it was seen in; ``tests/test_arm_compat.py`` notices when one moves.
"""

from __future__ import annotations

import importlib.metadata
import struct
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attrs import frozen

from qreg.backends.patching import patched
from qreg.graph.provenance import origin

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

# Adding and taking away 1.5 * 2**23 rounds a float32 below 2**22 to the nearest integer, halves to
# the even one. What is to be quantized is clamped to fewer bits than that behind it.
ROUNDING = 12582912.0
INPUTS_FIELD, OUTPUTS_FIELD = 10, 12  # in the virtual table of a block
VIEW = "aten.view_copy.default"
TABLE_ARGUMENTS = 2  # what is looked up, and the values


def quantization_config_class() -> Any:
    """Arm's class of configs with TOSA's rules for shared and fixed parameters."""
    # executorch 1.4.1; arm.quantizer exports its base class only
    from executorch.backends.arm.quantizer.quantization_config import TOSAQuantizationConfig

    return TOSAQuantizationConfig


def matched_key() -> str:
    """The key in ``node.meta`` of nodes that Arm's patterns leave alone."""
    # executorch 1.4.1
    from executorch.backends.cortex_m.quantizer.pattern_matcher import PatternMatcher

    return str(PatternMatcher.Q_PATTERN_MATCHED_KEY)


def quantized_key() -> str:
    """The key in ``node.meta["custom"]`` of the mark that Arm's lowering goes by."""
    # executorch 1.4.1
    from executorch.backends.arm.common.annotation_meta import ArmAnnotationInfo

    return str(ArmAnnotationInfo.CUSTOM_META_KEY)


def delegates_of(edge: ExportedProgram) -> list[Any]:
    """The delegates of a program, in the order of their calls, with their ``processed_bytes``."""
    # executorch 1.4.1
    from executorch.exir.lowered_backend_module import get_lowered_submodules

    return [lowered for _, lowered, _ in get_lowered_submodules(edge.graph_module)]


def reordered(program: bytes, *, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
    """A TOSA flatbuffer that names its inputs and outputs in another order.

    ``inputs`` and ``outputs`` have, for each place, the place of before. Only offsets to the names
    change.
    """
    # tosa-tools 2026.5.0, the fields of TosaBasicBlock in its schema
    from tosa.TosaGraph import TosaGraph

    data = bytearray(program)
    table = TosaGraph.GetRootAs(data).Regions(0).Blocks(0)._tab
    for field, order in ((INPUTS_FIELD, inputs), (OUTPUTS_FIELD, outputs)):
        start = table.Vector(table.Offset(field))
        places = [start + 4 * number for number in range(len(order))]
        names = [place + struct.unpack_from("<I", data, place)[0] for place in places]
        for place, number in zip(places, order, strict=True):
            struct.pack_into("<I", data, place, names[number] - place)
    return bytes(data)


def reference_model() -> Path:
    """The executable of the TOSA reference model."""
    # tosa-tools 2026.5.0; its command in bin/ is a Python script that starts this one
    found = importlib.metadata.distribution("tosa-tools").locate_file("bin/tosa_reference_model")
    return Path(str(found))


@frozen
class Source:
    """Where a TOSA operator comes from, in the form in which Arm writes it into the flatbuffer."""

    origin: str | None

    def to_dict(self) -> dict[str, str]:
        return {} if self.origin is None else {"origin": self.origin}


class OriginHook:
    """Stands in for Arm's debug hook, which writes whole stack traces into the flatbuffer."""

    def __init__(self, mode: object) -> None:
        self.mode = mode

    def add(self, node: Node, tosa_op: Any, tosa_op_id: Any) -> Source:
        return Source(origin(node))


def traced_and_exact() -> AbstractContextManager[None]:
    """Has Arm's lowering say where each operator comes from, and quantize as torch does."""
    # executorch 1.4.1
    from executorch.backends.arm._passes import decompose_quant_nodes, insert_table_ops
    from executorch.backends.arm._passes.decorate_fp32_to_int32_casting_pass import (
        DecorateFp32toInt32CastingPass as Casting,
    )
    from executorch.backends.arm.tosa import backend

    return patched(
        (backend, "DebugHook", lambda _: OriginHook),
        (Casting, "call_operator", lambda decorate: partialmethod(casting, decorate)),
        (insert_table_ops, "create_node", lambda _: with_origin_of_table),
        (decompose_quant_nodes, "create_node", lambda _: rounding_to_even),
    )


def with_origin_of_table(graph: Any, op_target: Any, args: Any = (), **others: Any) -> Node:
    """Makes a table node from the node that it stands for, which is in the name of its values."""
    from executorch.backends.arm._passes.arm_pass_utils import create_node

    names = {f"b_{node.name}_table_constant": node for node in graph.nodes}
    source = names.get(args[1].name) if len(args) == TABLE_ARGUMENTS else None
    made: Node = create_node(graph, op_target, args=args, **({"from_node": source} | others))
    return made


def rounding_to_even(graph: Any, op_target: Any, args: Any = (), **others: Any) -> Node:
    """Rounds what is to be quantized as torch does, halves to the even number.

    executorch 1.4.1 rounds them away from zero where it quantizes floats in TOSA: an image whose
    pixels are multiples of 1/16 has many.
    """
    from executorch.backends.arm._passes.arm_pass_utils import create_node
    from executorch.exir.dialects._ops import ops

    aten, made = ops.edge.aten, partial(create_node, graph, **others)
    if op_target != aten.round.default:
        return cast("Node", made(op_target, args=args))
    raised = made(aten.add.Scalar, args=(*args, ROUNDING))
    return cast("Node", made(aten.sub.Scalar, args=(raised, ROUNDING)))


def casting(self: Any, decorate: Any, op: Any, args: Any, kwargs: Any, meta: Any) -> Any:
    """Leaves casts of quantized tensors alone, which Arm decorates as those of floats.

    executorch 1.4.1 takes the result of a table, as of a tanh, for float32, and what a linear
    behind it gives too: a model that ends so does not lower.
    """
    from executorch.backends.arm._passes.arm_pass import ArmPass

    if op in self.target_ops and is_quantized(args[0].node):
        return ArmPass.call_operator(self, op, args, kwargs, meta)
    return decorate(self, op, args, kwargs, meta)


def is_quantized(node: Node) -> bool:
    """Whether a node of Arm's lowering gives quantized values, or a view of some."""
    while getattr(node.target, "__name__", "") == VIEW:
        node = node.all_input_nodes[0]
    return bool(node.meta.get("output_qparams"))
