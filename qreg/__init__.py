"""A plugin-based registry of quantizers for many backends.

Every name is imported on first use, so that ``import qreg`` is fast and plugins can be listed
without importing torch. The names are in ``__init__.pyi``.
"""

import lazy_loader

from qreg.identity import warn_of_another

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

warn_of_another()
