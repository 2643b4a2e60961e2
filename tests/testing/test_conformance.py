"""Pins the kit for plugin authors: each fault is caught by the test that is about it, and no other.

The plugins are real distributions, installed for the time of a test.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from conformance import GOOD, LINEAR, ROW, TANH, Install, Outcome, ran, suite_of
from torch import nn

from qreg import SupportedConfig
from qreg.errors import LoweringError
from qreg.plugins.registry import Registry
from qreg.testing import PluginConformance, Sample, annotators, together
from qreg.testing.running import outcome


def replaced(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_good_plugin_passes_every_test_and_none_is_skipped(distribution: Install) -> None:
    assert ran(suite_of(GOOD, distribution)) == Outcome({}, {})


MATCH = "    return operands(0)(node)"
SPEC = "    spec = config.output_activation\n"

# A change to the good plugin, the test that is about it, and what its failure says.
FAULTS: dict[str, tuple[str, str, str]] = {
    "does not import": (
        "import no_such_module_anywhere",
        "test_it_is_accepted",
        "no_such_module_anywhere",
    ),
    "raises in a hook": (
        replaced("    return annotators()", "    raise OSError(5)\n    return annotators()"),
        "test_it_is_accepted",
        "in qreg_annotators, it raised OSError",
    ),
    "misspells a hook": (
        replaced("def qreg_annotators", "def qreg_annotator"),
        "test_it_is_accepted",
        "not a hook of qreg",
    ),
    "takes a name of the stock plugin": (
        replaced('"tanh", TARGETS', '"linear", TARGETS'),
        "test_its_names_are_free",
        "replaces=",
    ),
    "misspells its backend": (
        replaced('== "toy"', '== "tov"'),
        "test_it_adds_something_to_its_backend",
        "yields nothing for 'toy'",
    ),
    "imports torch": (
        replaced("# top", "import torch"),
        "test_listing_it_imports_no_torch",
        r"qreg_mine\.py:5: import torch",
    ),
    "is used up by the first call": (
        replaced("    return annotators()", "    return USED_UP").replace(
            "@hookimpl\ndef qreg_annotators",
            "USED_UP = annotators()\n\n@hookimpl\ndef qreg_annotators",
        ),
        "test_it_answers_alike_each_time",
        "generator",
    ),
    "adds to every backend": (
        replaced('return annotators() if backend == "toy" else ()', "return annotators()"),
        "test_it_adds_to_no_other_backend",
        "if backend == 'toy'",
    ),
    "misspells a target": (
        replaced('["aten.tanh.default"]', '["aten.tanh.default", "aten.tahn.default"]'),
        "test_its_targets_name_operators",
        "'aten.tahn.default' is not an overload",
    ),
    "has a target in place": (
        replaced('["aten.tanh.default"]', '["aten.tanh.default", "aten.tanh_.default"]'),
        "test_its_targets_name_operators",
        "looked up as 'aten.tanh.default'",
    ),
    "never applies": (
        replaced(MATCH, "    return None"),
        "test_it_applies_to_its_sample",
        "toy has no|no pattern of toy fits",
    ),
    "raises on its own sample": (
        replaced(SPEC, f"{SPEC}    raise KeyError('lost')\n"),
        "test_it_applies_to_its_sample",
        "lost",
    ),
    "annotates what is before its match": (
        replaced("return [Annotation(match.output,", "return [Annotation(match.inputs[0],"),
        "test_it_touches_only_its_match",
        "not part of its match",
    ),
    "writes annotations itself": (
        replaced(
            MATCH,
            "    from qreg.graph.compat import annotate_node\n"
            f"    annotate_node(node.args[0], None)\n{MATCH}",
        ),
        "test_it_touches_only_its_match",
        "the host writes them",
    ),
    "changes the graph": (
        replaced(
            MATCH,
            "    with node.graph.inserting_before(node):\n"
            f"        node.graph.create_node('call_function', node.target, node.args)\n{MATCH}",
        ),
        "test_it_touches_only_its_match",
        "the graph was changed",
    ),
    "keeps a state": (
        replaced(
            SPEC,
            "    import dataclasses\n    CALLS.append(match)\n"
            "    quant_max = 127 - len(CALLS) % 2\n"
            "    spec = dataclasses.replace(config.output_activation, quant_max=quant_max)\n",
        ).replace("# top", "CALLS = []"),
        "test_it_annotates_alike_each_time",
        "keep no state",
    ),
    "matches what is annotated already": (
        replaced(
            MATCH,
            "    from qreg.annotators.annotate import output_spec\n"
            "    late = node.target.__name__ == 'neg.default' and not output_spec(node.args[0])\n"
            "    return None if late else operands(0)(node)",
        ).replace('["aten.tanh.default"]', '["aten.tanh.default", "aten.neg.default"]'),
        "test_annotating_again_adds_nothing",
        "may not depend on annotations",
    ),
    "stumbles over integers": (
        replaced(MATCH, f"    assert node.args[0].meta['val'].is_floating_point()\n{MATCH}"),
        "test_it_survives_odd_graphs",
        "aten.tanh.default on",
    ),
    "claims what the backend runs in float": (
        replaced("aten.tanh.default", "aten.sigmoid.default"),
        "test_it_runs_in_int8",
        "the program runs it in float, as toy aten.sigmoid.default",
    ),
    "has a config of another mode": (
        replaced('"static"], -128, "static"', '"static"], -128, "dynamic"'),
        "test_the_config_is_what_it_says",
        "a config that is static",
    ),
    "has a config out of range": (
        replaced("-128, ", "-129, "),
        "test_the_config_is_what_it_says",
        "beyond what torch.int8 can represent",
    ),
    "makes its config differently each time": (
        replaced(
            "    import dataclasses, torchao",
            "    CALLS.append(1)\n    import dataclasses, torchao",
        )
        .replace("quant_min=LOW", "quant_min=LOW + len(CALLS) % 2")
        .replace("# top", "CALLS = []"),
        "test_the_config_is_made_alike_each_time",
        "Make the config from constants",
    ),
}
SAMPLES = {
    "matches what is annotated already": Sample(
        nn.Sequential(
            nn.Linear(4, 4),
            nn.Tanh(),
            nn.Linear(4, 4),
            type("Neg", (nn.Module,), {"forward": lambda self, x: -x})(),
        ),
        ROW,
    ),
    "claims what the backend runs in float": Sample(
        nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), ROW
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught_by_the_test_that_is_about_it(fault: str, distribution: Install) -> None:
    source, about, says = FAULTS[fault]
    samples = {"tanh": SAMPLES.get(fault, TANH), "mine": LINEAR}
    found = ran(suite_of(source, distribution, samples), only=about)
    assert list(found.failed) == [about], found.failed
    assert pytest.raises(AssertionError, match=says).matches(AssertionError(found.failed[about]))


def twice(sample: Sample) -> list[Sample]:
    return [sample, Sample(copy.deepcopy(sample.module), sample.inputs)]


@pytest.mark.parametrize("fails", [False, True])
def test_samples_are_lowered_together_and_alone_only_where_that_fails(
    fails: bool, distribution: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone: list[Sample] = []

    def counted(registry: Registry, backend: str, sample: Sample, config: SupportedConfig) -> Any:
        alone.append(sample)
        return outcome(registry, backend, sample, config)

    def failing(*arguments: Any) -> Any:
        raise LoweringError("one of them")

    monkeypatch.setattr(annotators, "outcome", counted)
    monkeypatch.setattr(together, "outcome", failing if fails else outcome)
    samples = twice(TANH)
    suite = suite_of(GOOD, distribution, {"tanh": samples, "mine": LINEAR})
    assert ran(suite).failed == {}
    assert alone == (samples if fails else [])


def test_a_fault_of_samples_that_are_lowered_together_is_caught(distribution: Install) -> None:
    fault = "claims what the backend runs in float"
    source, about, says = FAULTS[fault]
    samples = {"tanh": twice(SAMPLES[fault]), "mine": LINEAR}
    found = ran(suite_of(source, distribution, samples))
    assert list(found.failed) == [about]
    assert says in found.failed[about]


def test_something_without_a_sample_is_named(distribution: Install) -> None:
    found = ran(suite_of(GOOD, distribution, {"mine": LINEAR}))
    assert list(found.failed) == ["test_everything_has_a_sample"]
    assert "no sample for the annotator 'tanh'" in found.failed["test_everything_has_a_sample"]


def test_a_sample_of_nothing_is_named(distribution: Install) -> None:
    samples = {"tanh": TANH, "mine": LINEAR, "tahn": TANH}
    found = ran(suite_of(GOOD, distribution, samples))
    assert list(found.failed) == ["test_everything_has_a_sample"]
    assert "samples for tahn" in found.failed["test_everything_has_a_sample"]


def test_a_config_that_quantizes_nothing_of_its_sample_is_named(distribution: Install) -> None:
    samples = {"tanh": TANH, "mine": Sample(nn.Softmax(-1), ROW)}
    found = ran(suite_of(GOOD, distribution, samples))
    assert list(found.failed) == ["test_the_config_quantizes_its_sample"]
    assert "nothing in this model would be quantized" in found.failed.popitem()[1]


def test_a_plugin_that_is_not_installed_says_how_to_install_it() -> None:
    class TestNobody(PluginConformance):
        plugin = "nobody"
        backend = "toy"

    found = ran(TestNobody)
    assert set(found.failed) == {"test_it_is_accepted", "test_its_names_are_free"}
    assert "pip install -e ." in found.failed["test_it_is_accepted"]
