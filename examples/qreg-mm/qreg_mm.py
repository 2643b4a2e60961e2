"""One more operator pattern for the XNNPACK backend: ``torch.mm`` by a constant.

``mm(x, weight)`` is a linear layer without a bias, whose weight lies the other way round, (in,
out), so its channels are along axis 1. The delegate runs it in int8; the stock table does not have
it.
"""

import qreg
from qreg.annotators.annotate import standard, with_channel_axis
from qreg.annotators.rules import quantized_operands
from qreg_xnnpack.delegate import int8_weight


def annotate(match, config):
    return standard(match, with_channel_axis(config, 1))


@qreg.hookimpl
def qreg_annotators(backend):
    if backend == "xnnpack":
        yield qreg.Annotator(
            "mm",
            ("aten.mm.default",),
            qreg.patterns.weighted(activation=0, weight=1),
            rules=(quantized_operands, int8_weight),
            annotate=annotate,
            summary="mm by a constant",
        )
