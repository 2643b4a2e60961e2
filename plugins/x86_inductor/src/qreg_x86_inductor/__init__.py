"""x86 Inductor for qreg: torchao's quantizer, AOTInductor packages, and a guard for residuals.

Every name is imported on first use: importing the plugin does not import torch. ``__init__.pyi``
lists the names.
"""

import lazy_loader

import qreg

if "hookimpl" not in dir(qreg):
    raise ImportError(
        "qreg is another library of that name (expected qreg-core). Run `pip uninstall qreg`, then "
        "`pip install --force-reinstall --no-deps qreg-core`."
    )

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
