"""The suite that every plugin must pass.

Each test checks one property, and its failure names the remedy. If the property cannot be checked
because of another failure, the test is skipped with the name of the test for that failure.
"""

from qreg.testing.algorithms import AlgorithmTests
from qreg.testing.annotators import AnnotatorTests
from qreg.testing.hooks import HookTests
from qreg.testing.values import BackendTests, ConfigTests


class PluginConformance(HookTests, AnnotatorTests, ConfigTests, BackendTests, AlgorithmTests):
    """Conformance tests: subclass as ``class TestMine``, with the plugin's name and samples.

    ::

        class TestMine(PluginConformance):
            plugin = "mine"  # the name of its entry point
            backend = "xnnpack"  # that it adds to
            samples = {"my_annotator": Sample(nn.Linear(4, 4), (torch.randn(2, 4),))}
    """
