"""Private names of executorch and tosa-tools, used in this module only.

Each name is listed with the version that it was verified in. ``tests/test_arm_compat.py`` fails if
one is moved or renamed.
"""

from __future__ import annotations

import importlib.metadata
import re
import struct
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attrs import frozen

from qreg.backends.patching import patched
from qreg.backends.unsupported import COMPLEX
from qreg.graph.provenance import origin

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

# Adding and subtracting 1.5 * 2**23 rounds a float32 below 2**22 to the nearest integer, ties to
# even. Values to quantize are clamped downstream to fewer bits than that.
ROUNDING = 12582912.0
INPUTS_FIELD, OUTPUTS_FIELD = 10, 12  # in the virtual table of a block
# executorch 1.4.1: the errors of its verifier, and of a program with operators without out variants
NOT_CORE = re.compile(r"Operator torch\._ops\.([\w.]+) is not in Core ATen")
# executorch 1.4.1 has no while_loop; between quantized operators, its tracing fails on one earlier.
NO_FLOW = re.compile(
    r"(?:Unsupported control flow operator: |FunctionalTensor on its own[^#]*?"
    r"target=torch\.ops\.higher_order\.)(\w+)"
)
NO_OUT, ATEN_NAME = re.compile(r"Missing out variants: (\{.*?\})"), re.compile(r"\w+::[\w.]+")
VIEW = "aten.view_copy.default"
TABLE_ARGUMENTS = 2  # the index, and the values


def without_kernel(error: Exception) -> list[str]:
    """Return the operators without a kernel, parsed from an error of executorch's lowering."""
    text = str(error)
    if "torch.complex" in text:
        return [COMPLEX]
    missing = [name for listed in NO_OUT.findall(text) for name in ATEN_NAME.findall(listed)]
    overloads = [name if "." in name else f"{name}.default" for name in missing]
    return [
        *NOT_CORE.findall(text),
        *NO_FLOW.findall(text),
        *(each.replace("::", ".") for each in overloads),
    ]


def quantization_config_class() -> Any:
    """Return Arm's config class, which has TOSA's rules for shared and fixed qparams."""
    # executorch 1.4.1; arm.quantizer exports its base class only
    from executorch.backends.arm.quantizer.quantization_config import TOSAQuantizationConfig

    return TOSAQuantizationConfig


def matched_key() -> str:
    """Return the key in ``node.meta`` that marks nodes which Arm's patterns skip."""
    # executorch 1.4.1
    from executorch.backends.cortex_m.quantizer.pattern_matcher import PatternMatcher

    return str(PatternMatcher.Q_PATTERN_MATCHED_KEY)


def quantized_key() -> str:
    """Return the key in ``node.meta["custom"]`` of the mark that Arm's lowering reads."""
    # executorch 1.4.1
    from executorch.backends.arm.common.annotation_meta import ArmAnnotationInfo

    return str(ArmAnnotationInfo.CUSTOM_META_KEY)


def delegates_of(edge: ExportedProgram) -> list[Any]:
    """Return the delegates of a program in call order, with their ``processed_bytes``."""
    # executorch 1.4.1
    from executorch.exir.lowered_backend_module import get_lowered_submodules

    return [lowered for _, lowered, _ in get_lowered_submodules(edge.graph_module)]


def reordered(program: bytes, *, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
    """Return a TOSA flatbuffer with its inputs and outputs in another order.

    ``inputs`` and ``outputs`` contain, for each new position, the old position. Only offsets to the
    names change.
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
    """Return the path of the executable of the TOSA reference model."""
    # tosa-tools 2026.5.0; its command in bin/ is a Python script that starts this one
    found = importlib.metadata.distribution("tosa-tools").locate_file("bin/tosa_reference_model")
    return Path(str(found))


@frozen
class Source:
    """The origin of a TOSA operator, in the form that Arm writes into the flatbuffer."""

    origin: str | None

    def to_dict(self) -> dict[str, str]:
        return {} if self.origin is None else {"origin": self.origin}


class OriginHook:
    """Replacement for Arm's debug hook, which writes full stack traces into the flatbuffer."""

    def __init__(self, mode: object) -> None:
        self.mode = mode

    def add(self, node: Node, tosa_op: Any, tosa_op_id: Any) -> Source:
        return Source(origin(node))


def traced_and_exact() -> AbstractContextManager[None]:
    """Patch Arm's lowering to record the origin of each operator, and to quantize as torch does."""
    # executorch 1.4.1
    from executorch.backends.arm._passes import decompose_quant_nodes, insert_table_ops
    from executorch.backends.arm._passes.decorate_fp32_to_int32_casting_pass import (
        DecorateFp32toInt32CastingPass as Casting,
    )
    from executorch.backends.arm._passes.rewrite_conv_pass import RewriteConvPass
    from executorch.backends.arm.tosa import backend

    return patched(
        (RewriteConvPass, "_has_int32_rescale_user", lambda _: keeps_sums),
        (backend, "DebugHook", lambda _: OriginHook),
        (Casting, "call_operator", lambda decorate: partialmethod(casting, decorate)),
        (insert_table_ops, "create_node", lambda _: with_origin_of_table),
        (decompose_quant_nodes, "create_node", lambda _: rounding_to_even),
    )


def keeps_sums(self: Any, node: Node) -> bool:
    """Whether a convolution of int16 activations returns its sums instead of int16: never.

    executorch 1.4.1 passes the sums to a rescale downstream, such as that of an addition, as if
    they had the scale of the output. The reference model rejects the values as out of range.
    """
    return False


def with_origin_of_table(graph: Any, op_target: Any, args: Any = (), **others: Any) -> Node:
    """Create a table node whose source is the node that it replaces.

    The name of the table's values contains the name of that node.
    """
    from executorch.backends.arm._passes.arm_pass_utils import create_node

    names = {f"b_{node.name}_table_constant": node for node in graph.nodes}
    source = names.get(args[1].name) if len(args) == TABLE_ARGUMENTS else None
    made: Node = create_node(graph, op_target, args=args, **({"from_node": source} | others))
    return made


def rounding_to_even(graph: Any, op_target: Any, args: Any = (), **others: Any) -> Node:
    """Round values to quantize as torch does, ties to even.

    executorch 1.4.1 rounds ties away from zero when it quantizes floats in TOSA. An image whose
    pixels are multiples of 1/16 has many ties.
    """
    from executorch.backends.arm._passes.arm_pass_utils import create_node
    from executorch.exir.dialects._ops import ops

    aten, made = ops.edge.aten, partial(create_node, graph, **others)
    if op_target != aten.round.default:
        return cast("Node", made(op_target, args=args))
    raised = made(aten.add.Scalar, args=(*args, ROUNDING))
    return cast("Node", made(aten.sub.Scalar, args=(raised, ROUNDING)))


def casting(self: Any, decorate: Any, op: Any, args: Any, kwargs: Any, meta: Any) -> Any:
    """Skip casts of quantized tensors, which Arm decorates as casts of floats.

    executorch 1.4.1 treats the result of a table, such as tanh, as float32, and so the result of a
    linear downstream of it. A model with such an output does not lower.
    """
    from executorch.backends.arm._passes.arm_pass import ArmPass

    if op in self.target_ops and is_quantized(args[0].node):
        return ArmPass.call_operator(self, op, args, kwargs, meta)
    return decorate(self, op, args, kwargs, meta)


def is_quantized(node: Node) -> bool:
    """Whether a node of Arm's lowering returns quantized values or a view of quantized values."""
    while getattr(node.target, "__name__", "") == VIEW:
        node = node.all_input_nodes[0]
    return bool(node.meta.get("output_qparams"))
