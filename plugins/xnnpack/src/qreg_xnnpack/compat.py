"""Private names of executorch, used in this module only.

Each name is listed with the version that it was verified in. ``tests/test_reading.py`` and
``tests/test_neighbours.py`` fail if one is moved or renamed.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qreg.backends.native import silenced
from qreg.backends.patching import patched
from qreg.backends.unsupported import COMPLEX

if TYPE_CHECKING:
    from torch.export import ExportedProgram

UNBOUNDED = re.compile(rb"(?<=[ :\[,])(-?)inf\b")  # written by flatc, but not valid JSON
HEADER_SIZE = 30  # executorch 1.4.1: XNNHeader.EXPECTED_LENGTH
EXTENDED_HEADER_END = 64  # executorch 1.4.1: 8 bytes, then _ExtendedHeader.EXPECTED_LENGTH, 32
# executorch 1.4.1: the errors of its verifier, and of a program with operators without out variants
NOT_CORE = re.compile(r"Operator torch\._ops\.([\w.]+) is not in Core ATen")
# executorch 1.4.1 has no while_loop; between quantized operators, its tracing fails on one earlier.
NO_FLOW = re.compile(
    r"(?:Unsupported control flow operator: |FunctionalTensor on its own[^#]*?"
    r"target=torch\.ops\.higher_order\.)(\w+)"
)
NO_OUT, ATEN_NAME = re.compile(r"Missing out variants: (\{.*?\})"), re.compile(r"\w+::[\w.]+")


def program_of(data: bytes) -> Any:
    """Return the dataclass that describes a ``.pte``, with its delegates' payloads in place.

    Weights are not among these. ``deserialize_pte_binary`` copies them twice.
    """
    # executorch 1.4.1
    from executorch.exir._serialize import _program as serialization
    from executorch.exir.schema import DataLocation

    header = serialization._get_extended_header(data[:EXTENDED_HEADER_END])
    if header is None:
        return serialization._flatbuffer_to_program(data)
    program = serialization._flatbuffer_to_program(data[: header.program_size])
    payloads = {
        each.processed.index
        for plan in program.execution_plan
        for each in plan.delegates
        if each.processed.location == DataLocation.SEGMENT
    }
    start = header.segment_base_offset
    places = [(start + each.offset, start + each.offset + each.size) for each in program.segments]
    segments = [
        data[slice(*place)] if index in payloads else b"" for index, place in enumerate(places)
    ]
    return serialization._restore_delegates(program, segments)


def planned_memory(data: bytes) -> int:
    """Return the number of bytes that a ``.pte`` plans for its activations."""
    plans: list[Any] = program_of(data).execution_plan
    return max(int(sum(each.non_const_buffer_sizes)) for each in plans)


def missing_kernels(data: bytes) -> list[str]:
    """Return the operators of a ``.pte`` for which the runtime of this process has no kernel."""
    return without_registered_kernel(program_of(data))


def without_registered_kernel(program: Any) -> list[str]:
    """Return the operators of a program for which the runtime of this process has no kernel.

    ``program`` is what :func:`program_of` returns, or what is in an ``ExecutorchProgramManager``.
    """
    # executorch 1.4.1
    from executorch.extension.pybindings._portable_lib import _get_operator_names

    called = (each for plan in program.execution_plan for each in plan.operators)
    names = (f"{each.name}.{each.overload}".rstrip(".") for each in called)
    return sorted(set(names).difference(_get_operator_names()))


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


def in_graphs(kernel: str) -> str:
    """Return the operator of a kernel as graphs have it.

    >>> [in_graphs(each) for each in ("aten::_embedding_bag.out", "aten::fmin.Tensor_out")]
    ['aten._embedding_bag.default', 'aten.fmin.Tensor']
    """
    name, _, overload = kernel.replace("::", ".").rpartition(".")
    return f"{name}.{overload.removesuffix('out').rstrip('_') or 'default'}"


def graph_of(payload: bytes) -> dict[str, Any]:
    """Return the XNNPACK graph in a delegate's payload, in the form of ``schema.fbs``."""
    # executorch 1.4.1
    from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize as serialization
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = serialization.XNNHeader.from_bytes(payload[:HEADER_SIZE])
    start = header.flatbuffer_offset
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        schema, binary = folder / "schema.fbs", folder / "graph.bin"
        schema.write_bytes(serialization._get_schema_bytes())
        binary.write_bytes(payload[start : start + header.flatbuffer_size])
        _flatc_decompile(name, str(schema), str(binary))
        written = (folder / "graph.json").read_bytes()
    graph: dict[str, Any] = json.loads(UNBOUNDED.sub(rb"\1Infinity", written))
    return graph


def delegates_of(edge: ExportedProgram) -> list[Any]:
    """Return the delegates of a program in call order.

    The ``original_module`` of a delegate is the graph that was lowered to it; ``buffer()`` returns
    a separate program.
    """
    # executorch 1.4.1
    from executorch.exir.lowered_backend_module import get_lowered_submodules

    return [lowered for _, lowered, _ in get_lowered_submodules(edge.graph_module)]


def release_payloads(edge: ExportedProgram) -> None:
    """Drop the weights of the delegates of a program that has been serialized."""
    # executorch 1.4.1
    for each in delegates_of(edge):
        each._named_data_store_output = None


def newest_fake_result() -> Any:
    """Return the key of the newest entry of torch's cache of fake results, or None."""
    # torch 2.13.0
    from torch._subclasses.fake_tensor import FakeTensorMode

    return next(reversed(FakeTensorMode.cache), None)


def forget_delegates(since: Any) -> None:
    """Remove the calls of delegates behind an entry from torch's cache of fake results.

    The cache holds the arguments of each call until the process ends: here, programs and weights.
    """
    # torch 2.13.0; executorch 1.4.1
    from executorch.exir.lowered_backend_module import LoweredBackendModule
    from torch._subclasses.fake_tensor import FakeTensorMode

    newest_first = reversed(list(FakeTensorMode.cache))
    for key in takewhile(lambda each: each is not since, newest_first):
        if any(isinstance(each, LoweredBackendModule) for each in key.key):
            FakeTensorMode.cache.pop(key, None)


def forget_compared_nodes() -> None:
    """Empty the cache of the comparison of two nodes, which keeps their graphs without a limit."""
    from executorch.exir.backend.utils import is_same_node

    is_same_node.cache_clear()  # executorch 1.4.1


def search_for_callers() -> tuple[Any, str]:
    """Return the partitioner and the name of its search for a deprecated caller on the stack."""
    # executorch 1.4.1
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return XnnpackPartitioner, "_check_if_called_from_to_backend"


def copying_programs() -> tuple[Any, str]:
    """Return the module that copies the program of each delegate, and its name for ``copy``."""
    # executorch 1.4.1
    from executorch.exir.backend import backend_api

    return backend_api, "copy"


def group_partitioner() -> Any:
    """Return the class that merges partitions, in pairs that ``_can_merge_partitions`` accepts."""
    # executorch 1.4.1
    from executorch.exir.backend.canonical_partitioners.group_partitioner import (
        GroupBasedPartitioner,
    )

    return GroupBasedPartitioner


def viewers_of_dependencies() -> tuple[tuple[Any, str], ...]:
    """Return the modules with a class for the dependencies of a graph, and its name."""
    # torch 2.13.0; executorch 1.4.1
    from executorch.exir.backend.canonical_partitioners import group_partitioner as grouping
    from torch.fx.passes.infra import partitioner

    return (partitioner, "_DependencyViewer"), (grouping, "_DependencyViewer")


def layout_pass() -> Any:
    """Return the delegate's pass that converts images to channels last, and back."""
    # executorch 1.4.1; its methods input_to_nhwc, input_to_nchw, insert_copy_q_dq and is_nhwc_node
    from executorch.backends.xnnpack._passes.channels_last_tagged_reshape_pass import (
        ChannelsLastTaggedReshapePass,
    )

    return ChannelsLastTaggedReshapePass


def export_pass() -> Any:
    """Return the base of the passes that trace a graph again."""
    # executorch 1.4.1
    from executorch.exir.pass_base import ExportPass

    return ExportPass


def edge_operator_class() -> Any:
    """Return the class of operators in decomposed programs, which keep torch's in ``_op``."""
    # executorch 1.4.1
    from executorch.exir.dialects.edge._ops import EdgeOpOverload

    return EdgeOpOverload


def dtype_check() -> tuple[Any, str]:
    """Return the module and the name of the check that follows each pass over a program."""
    # executorch 1.4.1
    from executorch.exir.verification import verifier

    return verifier, "_check_tensor_args_matching_op_allowed_dtype"


def passes_that_quantize() -> tuple[Any, ...]:
    """Return the modules of the passes that quantize operators inserted next to a quantized node.

    Each module calls its own names ``is_quant`` and ``is_dequant`` to classify a node.
    """
    # executorch 1.4.1
    from executorch.backends.xnnpack._passes import (
        conv1d_unsqueeze_pass,
        decompose_cat,
        insert_pad_qdq,
    )

    return conv1d_unsqueeze_pass, decompose_cat, insert_pad_qdq


def unary_configs() -> tuple[Any, ...]:
    """Return the partitioner's configs of the activations that it accepts in float only."""
    # executorch 1.4.1
    from executorch.backends.xnnpack.partition.config import generic_node_configs as configs

    names = ("Hardswish", "Sigmoid", "Tanh", "Gelu", "LeakyReLU")
    return tuple(getattr(configs, f"{name}Config") for name in names)


def statically_quantized() -> Any:
    """Return the precision of an operator between a static dequantize and a quantize."""
    # executorch 1.4.1
    from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType

    return ConfigPrecisionType.STATIC_QUANT


def without_bilinear_patterns() -> AbstractContextManager[None]:
    """Skip the export of four patterns of bilinear resizing, which takes 1.7 s per process.

    Each pattern is the operator that would replace it, so a pass that matches it changes nothing.
    """
    # executorch 1.4.1
    from executorch.backends.xnnpack.partition.graphs import bilinear_2d

    return patched((bilinear_2d, "get_graphs_dict", lambda _: dict))


def without_attention_patterns() -> AbstractContextManager[None]:
    """Skip the export of two patterns of attention, 1 s per process, where neither can match.

    Both have ``any.dim`` in them, of the softmax that attends to nothing in rows that are masked.
    The partitioner leaves that operator out of delegates.
    """
    # executorch 1.4.1
    from executorch.backends.xnnpack._passes.convert_to_sdpa import ConvertToSDPAPass

    return patched((ConvertToSDPAPass, "call", _without_patterns))


def _without_patterns(call: Callable[..., Any]) -> Callable[..., Any]:
    # executorch 1.4.1
    from executorch.backends.xnnpack.partition.graphs import sdpa
    from executorch.exir.dialects._ops import ops

    def replacement(itself: Any, graph_module: Any) -> Any:
        if any(node.target == ops.edge.aten.any.dim for node in graph_module.graph.nodes):
            return call(itself, graph_module)
        with patched((sdpa, "get_graphs", lambda _: list)):
            return call(itself, graph_module)

    return replacement


def attention_of(model: Any) -> str:
    """Return the name of the attention that a model of transformers calls."""
    # transformers 5.24
    return str(model.config._attn_implementation)


def is_absorbed(node: Any) -> bool:
    """Whether the delegate runs a quantize or dequantize as part of an adjacent operator."""
    # executorch 1.4.1
    from executorch.backends.xnnpack.utils.quant_utils import is_tagged_as_implicit_q_dq

    return bool(is_tagged_as_implicit_q_dq(node))


def is_dynamic_dequantize(node: Any) -> bool:
    """Whether a node dequantizes an activation whose range is found at run time."""
    # executorch 1.4.1
    from executorch.backends.xnnpack.utils.quant_utils import is_dequant, is_dynamic_qdq

    return bool(is_dequant(node) and is_dynamic_qdq(node))


def edge_operator(name: str) -> Any:
    """Return the default overload of an operator of torch, in the form of decomposed programs."""
    # executorch 1.4.1
    from executorch.exir.dialects._ops import ops

    return getattr(ops.edge.aten, name).default


@functools.cache
def start_threads() -> None:
    """Start the threads of the runtime, which writes what it cannot read about the processor."""
    # executorch 1.4.1: cpuinfo_utils.cpp
    from executorch.extension.pybindings.portable_lib import _threadpool_get_thread_count

    with silenced():
        _threadpool_get_thread_count()


def set_threads(count: int) -> None:
    """Set the number of threads of the runtime, for the whole process."""
    # executorch 1.4.1
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool

    with silenced():  # it writes the number
        _unsafe_reset_threadpool(count)
