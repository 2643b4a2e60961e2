"""Test kit for authors of plugins.

``PluginConformance`` is a suite that every plugin must pass; a subclass names the plugin, and has a
sample for each annotator, config and backend. ``annotate`` is for further tests: it annotates a
small module and returns the Decisions, with assertions on them. Both are for pytest, which this
package does not import: ``pip install 'qreg-core[testing]'``.
"""

from qreg.testing.conformance import PluginConformance
from qreg.testing.graphs import Annotated, annotate, graph_of
from qreg.testing.subject import Sample

__all__ = ["Annotated", "PluginConformance", "Sample", "annotate", "graph_of"]
