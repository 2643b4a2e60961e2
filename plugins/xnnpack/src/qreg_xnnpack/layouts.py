"""Where the delegate's dynamic inputs are laid out anew, put right for the time of a lowering.

Convolutions read images with the channels last, linears with the channels first, and a pass inside
the delegate (executorch 1.4.1) inserts the conversions. Ahead of a dynamic input it goes too far
back: to the very first operand of everything that computes the input inside the delegate. There it
converts a tensor of another rank, which fails to lower, or one that others read in the layout it
had, which fails when the program runs or gives wrong numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from qreg_xnnpack.compat import is_dynamic_dequantize, layout_pass

_one_at_a_time = threading.RLock()  # the pass is executorch's, and the same for all threads


@contextmanager
def dynamic_layouts() -> Iterator[None]:
    """Lets the delegate convert what is quantized, and nothing before that."""
    changed = layout_pass()
    with _one_at_a_time:
        before = changed.input_to_nhwc, changed.input_to_nchw
        changed.input_to_nhwc, changed.input_to_nchw = map(_ahead_of_quantizing, before)
        try:
            yield
        finally:
            changed.input_to_nhwc, changed.input_to_nchw = before


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
