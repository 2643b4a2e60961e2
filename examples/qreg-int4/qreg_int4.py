"""Two more configs for the XNNPACK backend: weights of 4 bits, per channel, for linear layers.

The delegate packs two weights into a byte where their range is exactly [-8, 7], and multiplies them
with int8 activations. The rules of the backend reject other operators with 4-bit weights.
"""

from functools import partial

import qreg
from qreg_xnnpack import get_symmetric_quantization_config

int4 = partial(
    get_symmetric_quantization_config, is_per_channel=True, weight_qmin=-8, weight_qmax=7
)


@qreg.hookimpl
def qreg_supported_configs(backend):
    if backend == "xnnpack":
        for mode in ("dynamic", "static"):
            yield qreg.SupportedConfig(
                f"int4_{mode}_per_channel",
                f"int8 activations per tensor, {mode}; 4-bit weights per channel, for linear",
                mode,
                partial(int4, is_dynamic=mode == "dynamic"),
            )
