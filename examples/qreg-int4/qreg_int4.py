"""One more config for the XNNPACK backend: 4-bit weights with static activations, for linear.

The backend's own configs of 4 bits have dynamic activations. The delegate packs two weights into a
byte where their range is exactly [-8, 7], and multiplies them with int8 activations of either kind.
The rules of the backend reject other operators with 4-bit weights.
"""

from functools import partial

import qreg
from qreg_xnnpack import get_symmetric_quantization_config


@qreg.hookimpl
def qreg_supported_configs(backend):
    if backend == "xnnpack":
        yield qreg.SupportedConfig(
            "int4_static_per_channel",
            "int8 activations per tensor, static; 4-bit weights per channel, for linear",
            "static",
            partial(
                get_symmetric_quantization_config,
                is_per_channel=True,
                weight_qmin=-8,
                weight_qmax=7,
            ),
        )
