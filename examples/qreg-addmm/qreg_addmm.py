"""One more operator pattern for the XNNPACK backend: ``addmm``, which GPT-2 calls Conv1D.

``addmm(bias, x, weight)`` is a linear layer whose weight lies the other way round, (in, out), so
its channels are along axis 1. The delegate runs it in int8; the stock table does not have it.
"""

import qreg
from qreg.annotators.annotate import standard, with_channel_axis
from qreg.annotators.rules import quantized_operands, unscaled_product
from qreg.graph.nodes import shape_of
from qreg_xnnpack.delegate import int8_weight, unshared_bias


def bias_in_a_row(match, config):
    """One number for each output column: addmm adds matrices and single numbers too."""
    shape, columns = shape_of(match.bias), shape_of(match.output)[-1:]
    return None if shape == columns else f"its bias has shape {shape} (expected {columns})"


def annotate(match, config):
    return standard(match, with_channel_axis(config, 1))


@qreg.hookimpl
def qreg_annotators(backend):
    if backend == "xnnpack":
        matcher = qreg.patterns.weighted(activation=1, weight=2, bias=0)
        rules = (quantized_operands, unscaled_product, bias_in_a_row, int8_weight, unshared_bias)
        yield qreg.Annotator(
            "addmm",
            ("aten.addmm.default",),
            matcher,
            rules=rules,
            annotate=annotate,
            summary="addmm",
        )
