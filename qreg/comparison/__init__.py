"""Compare the programs and the latency of several backends on one model.

``values`` has the results, ``contender`` runs one backend in a separate process, ``compare`` is
the public function, ``page`` and ``text`` render the results. The names are in ``__init__.pyi``,
and imported on first use: the process of a contender must redirect its output ahead of the import
of torchao.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
