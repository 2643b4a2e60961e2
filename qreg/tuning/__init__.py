"""Search for a program whose metric is within a limit of the float model's.

``tune`` is the public function. ``search`` decides what is tried next, ``mixing`` which patterns
leave the config of the rest, by what ``ranking`` measured. ``making`` makes and measures the
program of a trial, and ``store`` keeps it. ``tuned``, ``text`` and ``page`` are the outcome and its
forms. The names are in ``__init__.pyi``, and imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
