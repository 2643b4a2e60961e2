"""The suite that every plugin passes.

Each test is about one thing, and says in its failure what to change. Where the thing cannot be seen
because another is wrong, the test is skipped with the name of the one that is about the other.
"""

from qreg.testing.annotators import AnnotatorTests
from qreg.testing.hooks import HookTests
from qreg.testing.values import BackendTests, ConfigTests


class PluginConformance(HookTests, AnnotatorTests, ConfigTests, BackendTests):
    """Subclass it as ``class TestMine``, say which plugin, and give samples of what it supplies.

    ::

        class TestMine(PluginConformance):
            plugin = "mine"  # the name of its entry point
            backend = "xnnpack"  # that it adds to
            samples = {"my_annotator": Sample(nn.Linear(4, 4), (torch.randn(2, 4),))}
    """
