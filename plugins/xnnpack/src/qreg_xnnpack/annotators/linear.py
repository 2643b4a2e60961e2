"""Linear layers, alone and with the clamp that the delegate fuses."""

from __future__ import annotations

from qreg import ALL_MODES, patterns
from qreg.annotators.builders import chain
from qreg.annotators.rules import quantized_operands
from qreg.graph.operators import LINEAR, RELU, RELU6
from qreg_xnnpack.delegate import dynamic_per_channel, int8_weight, unshared_bias

RULES = (quantized_operands, int8_weight, unshared_bias, dynamic_per_channel)

ANNOTATORS = (
    chain("linear_relu", LINEAR, patterns.weighted(), RELU, rules=RULES),
    chain("linear_clamp", LINEAR, patterns.weighted(), RELU6, rules=RULES),
    chain(
        "linear",
        LINEAR,
        patterns.weighted(),
        modes=ALL_MODES,
        rules=RULES,
        summary="linear; the matrix products of gru, lstm, rnn and their cells",
    ),
)
