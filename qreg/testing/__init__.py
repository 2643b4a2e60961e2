"""The kit with which the author of a plugin tests it.

``PluginConformance`` is a suite that every plugin passes; a subclass says which plugin, and gives
a sample for each annotator, config and backend. ``annotate`` is for tests of one's own: it
annotates a small module and returns the Decisions, with assertions on them. Both are for pytest,
which is imported by whoever runs the tests and not here: ``pip install 'qreg[testing]'``.
"""

from qreg.testing.conformance import PluginConformance
from qreg.testing.graphs import Annotated, annotate, graph_of
from qreg.testing.subject import Sample

__all__ = ["Annotated", "PluginConformance", "Sample", "annotate", "graph_of"]
