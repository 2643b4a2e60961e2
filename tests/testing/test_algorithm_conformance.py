"""Pins the kit for authors of algorithms: each fault is caught by the test that is about it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from conformance import LINEAR, TOY, Install, ran

from qreg.testing import PluginConformance

PLUGIN = """
import qreg


def run(candidate, calibration):
    import torch

    (node,) = (each for each in candidate.model.graph.nodes if each.name == "linear")
    bias = candidate.model.get_parameter(str(node.args[2].target)).detach()
    if node.name in candidate.kept:
        return
    yield qreg.Change("linear", constants={2: bias + 0.0})


def mine(by=0.0):
    parameters = {"by": by}
    return qreg.Algorithm(
        "mine", "float", "for a test", run, parameters=parameters, make=mine
    )


@qreg.hookimpl
def qreg_algorithms():
    yield mine()
"""
YIELD = '    yield qreg.Change("linear", constants={2: bias + 0.0})\n'
KEPT = "    if node.name in candidate.kept:\n        return\n"
FAULTS = {
    "changes nothing": ({YIELD: "    yield from ()\n"}, "test_the_algorithm_changes_its_sample"),
    "changes what is not there": (
        {'Change("linear", constants={2': 'Change("linear", constants={7'},
        "test_its_changes_can_be_written",
    ),
    "modifies the model": (
        {KEPT: f"{KEPT}    bias.add_(1.0)\n"},
        "test_it_modifies_nothing_itself",
    ),
    "is random": (
        {"bias + 0.0": "bias + 1e-6 * torch.randn(())"},
        "test_it_returns_the_same_changes_each_time",
    ),
    "changes what is kept": ({KEPT: ""}, "test_it_leaves_scopes_in_float_alone"),
    "changes the outputs": ({"bias + 0.0": "bias + 1.0"}, "test_a_float_rewrite_changes_no_output"),
    "imports torch": (
        {"import qreg\n": "import qreg\nimport torch\n"},
        "test_listing_it_imports_no_torch",
    ),
    "cannot be made": ({", make=mine": ""}, "test_it_is_made_again_with_its_parameters"),
    "is made with others": (
        {'{"by": by}': '{"by": by + 1.0}'},
        "test_it_is_made_again_with_its_parameters",
    ),
    "returns tensors": ({YIELD: "    yield bias\n"}, "test_its_changes_can_be_written"),
}


def suite(source: str, install: Install) -> type[PluginConformance]:
    install("qreg-toy", TOY)
    install("qreg-mine", source)

    class TestMine(PluginConformance):
        plugin = "mine"
        backend = "toy"
        samples: ClassVar[Any] = {"mine": LINEAR}

    return TestMine


def test_a_good_algorithm_passes_every_test(distribution: Install) -> None:
    assert ran(suite(PLUGIN, distribution)).failed == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_an_algorithm_is_caught_by_the_test_that_is_about_it(
    fault: str, distribution: Install
) -> None:
    changes, about = FAULTS[fault]
    source = PLUGIN
    for old, new in changes.items():
        assert old in source
        source = source.replace(old, new, 1)
    assert about in ran(suite(source, distribution)).failed
