"""The parts of an annotator: patterns, rules, annotations, and builders of common annotators.

The modules are imported on first use. They are listed in ``__init__.pyi``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
