"""Where the delegate lays quantized images out anew, put right for the time of a lowering.

Convolutions read images with the channels last, linears with the channels first, and a pass inside
the delegate (executorch 1.4.1) inserts the conversions. Two of them it gets wrong:

1. Ahead of a dynamic input it goes too far back: to the very first operand of everything that
   computes the input inside the delegate. There it converts a tensor of another rank, which fails
   to lower, or one that others read in the layout it had, which fails when the program runs or
   gives wrong numbers.
2. Behind a dequantize it converts for all that read it, and not only for the reader that asked.
   Those that it has gone past, such as the transposed image in ``x @ x.mT``, then give what counts
   as laid out as it is not: wrong numbers, or a program that does not run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from qreg.backends.patching import patched
from qreg_xnnpack.compat import is_dynamic_dequantize, layout_pass


def layouts_put_right() -> AbstractContextManager[None]:
    """Lets the delegate convert what is quantized, nothing before that, and for one reader."""
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
    """Gives readers that the pass has gone past a dequantize of their own, laid out as before."""

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
