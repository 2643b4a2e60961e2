"""Several backends on one model, side by side: what each makes of it, and how long that takes.

``values`` is what comes out, ``contender`` one backend in a process of its own, ``compare`` the
whole, ``page`` and ``text`` what people see. The names are in ``__init__.pyi``, and imported on
first use: the process of a contender must not import torchao before it has said where to write.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
