"""XNNPACK for qreg: configs, annotators, transforms and the lowering to ExecuTorch's delegate.

Every name is imported on first use: importing the plugin does not import torch. ``__init__.pyi``
lists the names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
