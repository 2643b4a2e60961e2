"""Arm for qreg: executorch's TOSA quantizer, TOSA programs that run, Ethos-U programs that do not.

Importing the plugin does not import torch: functions that need torch import it when called.
"""

import qreg

if "hookimpl" not in dir(qreg):
    raise ImportError(
        "qreg is another library of that name (expected qreg-core). Run `pip uninstall qreg`, then "
        "`pip install --force-reinstall --no-deps qreg-core`."
    )
