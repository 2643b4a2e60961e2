"""Fixes for the delegate's layout conversions of quantized images, applied during a lowering.

Convolutions read images with the channels last, linears with the channels first. A pass inside the
delegate (executorch 1.4.1) inserts the conversions, with two faults:

1. Upstream of a dynamic input, it converts the first operand of all nodes that compute the input
   inside the delegate. If that tensor has another rank, the program fails to lower. If other nodes
   read the tensor in its original layout, the program fails at run time or returns wrong values.
2. Downstream of a dequantize, it converts for all readers instead of the one that requires it. The
   readers that the pass already visited, such as the transposed image in ``x @ x.mT``, are then
   recorded with the wrong layout. The program returns wrong values or does not run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from qreg.backends.patching import patched
from qreg_xnnpack.compat import is_dynamic_dequantize, layout_pass


def layouts_put_right() -> AbstractContextManager[None]:
    """Patch the pass to convert quantized values only, nothing upstream, and for one reader."""
    changed = layout_pass()
    return patched(
        (changed, "input_to_nhwc", _ahead_of_quantizing),
        (changed, "input_to_nchw", _ahead_of_quantizing),
        (changed, "insert_copy_q_dq", _for_one_reader),
    )


def _ahead_of_quantizing(convert: Callable[..., None]) -> Callable[..., None]:
    def replacement(itself: Any, graph_module: Any, entering: Any, reader: Any) -> None:
        if not is_dynamic_dequantize(entering):
            convert(itself, graph_module, entering, reader)
            return
        quantize = entering.args[0]
        parameters = quantize.all_input_nodes[1:]
        choosers = dict.fromkeys(each.all_input_nodes[0] for each in parameters)
        for first in (*choosers, quantize):
            convert(itself, graph_module, first.args[0], first)

    return replacement


def _for_one_reader(insert: Callable[..., None]) -> Callable[..., None]:
    """Insert a separate dequantize in the original layout for readers already visited."""

    def replacement(
        itself: Any, graph_module: Any, before: Any, after: Any, copy: Any, q_params: Any
    ) -> None:
        others = [each for each in before.users if each is not copy and each < after]
        if others:
            with graph_module.graph.inserting_after(before):
                same = graph_module.graph.node_copy(before)
            for each in others:
                each.replace_input_with(before, same)
        insert(itself, graph_module, before, after, copy, q_params)

    return replacement
