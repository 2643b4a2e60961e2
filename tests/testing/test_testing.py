"""Pins the kit for plugin authors: each fault is caught by the test that is about it, and no other.

The plugins are real distributions, installed for the time of a test.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest

import pytest
import torch
from attrs import frozen
from torch import nn

from qreg import Registry, get_quantizer
from qreg.testing import PluginConformance, Sample, annotate, graph_of
from qreg.testing.odd import odd_calls, odd_models
from qreg.testing.suite import PARAMETERS

Install = Callable[..., Path]
TOY = (Path(__file__).parents[1] / "toy.py").read_text(encoding="utf-8")

torch.manual_seed(0)
ROW = torch.randn(2, 4)
TANH = Sample(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), ROW)
LINEAR = Sample(nn.Linear(4, 4), ROW)

GOOD = """
from qreg import Annotation, Annotator, Match, SupportedConfig, hookimpl
from qreg.annotators.patterns import operands

# top

def match(node):
    return operands(0)(node)

def annotate(match, config):
    spec = config.output_activation
    return [Annotation(match.output, dict.fromkeys(match.inputs, config.input_activation), spec)]

def annotators():
    yield Annotator("tanh", TARGETS, match, MODES, annotate=annotate)

def factory():
    import dataclasses, torchao.quantization.pt2e as pt2e
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec
    import torch
    spec = QuantizationSpec(
        torch.int8, pt2e.MinMaxObserver, quant_min=LOW, quant_max=127,
        qscheme=torch.per_tensor_affine,
    )
    weight = dataclasses.replace(spec, quant_min=-127, qscheme=torch.per_tensor_symmetric)
    return QuantizationConfig(spec, spec, weight, None, False)

TARGETS, MODES, LOW, MODE = ["aten.tanh.default"], ["static"], -128, "static"

@hookimpl
def qreg_annotators(backend):
    return annotators() if backend == "toy" else ()

@hookimpl
def qreg_supported_configs(backend):
    return [SupportedConfig("mine", "", MODE, factory)] if backend == "toy" else ()
"""

Failures = dict[str, str]


@frozen
class Outcome:
    """The tests of a suite that failed, with what they say, and those that were skipped."""

    failed: Failures
    skipped: Failures


def ran(suite: type[PluginConformance]) -> Outcome:
    """Runs every test of a suite, as pytest would."""
    outcome = Outcome({}, {})
    for name, values in runs(suite):
        try:
            getattr(suite(), name)(*values)
        except SkipTest as skipped:
            outcome.skipped[name] = str(skipped)
        except AssertionError as error:
            outcome.failed[name] = str(error)
    return outcome


def runs(suite: type[PluginConformance]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, function in inspect.getmembers(suite, inspect.isfunction):
        if name.startswith("test_"):
            (argument,) = PARAMETERS.keys() & inspect.signature(function).parameters or {None}
            each = [(value,) for value in suite.values(argument)] if argument else [()]
            yield from ((name, values) for values in each)


def suite_of(
    source: str, install: Install, given: dict[str, Sample] | None = None
) -> type[PluginConformance]:
    """The suite of a plugin that adds to the toy backend, with both installed."""
    install("qreg-toy", TOY)
    install("qreg-mine", source)

    class TestMine(PluginConformance):
        plugin = "mine"
        backend = "toy"
        samples: ClassVar[Any] = {"tanh": TANH, "mine": LINEAR} if given is None else given

    return TestMine


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
        "the host writes them down",
    ),
    "changes the graph": (
        replaced(
            MATCH,
            "    with node.graph.inserting_before(node):\n"
            f"        node.graph.create_node('call_function', node.target, node.args)\n{MATCH}",
        ),
        "test_it_touches_only_its_match",
        "the graph is another one",
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
        "beyond what torch.int8 holds",
    ),
    "makes its config differently each time": (
        replaced(
            "    import dataclasses, torchao",
            "    CALLS.append(1)\n    import dataclasses, torchao",
        )
        .replace("quant_min=LOW", "quant_min=LOW + len(CALLS) % 2")
        .replace("# top", "CALLS = []"),
        "test_the_config_is_made_alike_each_time",
        "Make it from constants",
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
    found = ran(suite_of(source, distribution, samples))
    assert list(found.failed) == [about], found.failed
    assert pytest.raises(AssertionError, match=says).matches(AssertionError(found.failed[about]))


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


# Backends

OWN = {
    "linear_relu": Sample(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), ROW),
    "linear": LINEAR,
    "add": Sample(type("Twice", (nn.Module,), {"forward": lambda self, x, y: x + y})(), (ROW, ROW)),
    "relu": Sample(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.ReLU()), ROW),
    **dict.fromkeys(("toy", "minmax", "histogram", "dynamic", "qat"), LINEAR),
}

TRANSFORM = "    load=load,\n    transforms=(transform,),\n"
BACKEND_FAULTS: dict[str, tuple[dict[str, str], str, str]] = {
    "names a default config that is not there": (
        {'default_config="minmax"': 'default_config="minmix"'},
        "test_its_default_config_is_there",
        "minmax, histogram",
    ),
    "requires what pip cannot read": (
        {
            "    load=load,\n": "    load=load,\n"
            "    requires=(Requirement('torch', '>>torch'),),\n",
            "SupportedConfig, hookimpl": "SupportedConfig, Requirement, hookimpl",
        },
        "test_it_is_accepted",
        "'>>torch' is no argument",
    ),
    "changes results in a transform": (
        {
            "    load=load,\n": TRANSFORM,
            "BACKEND = ": "def transform(model, modes):\n"
            "    import torch\n"
            "    for node in model.graph.nodes:\n"
            "        if str(node.target) == 'aten.sub.Tensor':\n"
            "            node.target = torch.ops.aten.add.Tensor\n"
            "    model.recompile()\n"
            "    return model\n\n"
            "BACKEND = ",
        },
        "test_its_transforms_change_no_result",
        "a module that is called twice gives something else",
    ),
    "annotates in a transform": (
        {
            "    load=load,\n": TRANSFORM,
            "BACKEND = ": "def transform(model, modes):\n"
            "    from qreg.graph.compat import annotate_node\n"
            "    first = next(iter(model.graph.nodes))\n"
            "    annotate_node(first, None)\n"
            "    return model\n\n"
            "BACKEND = ",
        },
        "test_it_leaves_float_what_is_opted_out",
        "though everything was opted out",
    ),
    "lowers nothing that is float": (
        {
            "    buffer = io.BytesIO()\n": "    buffer = io.BytesIO()\n"
            "    assert any('quantize' in str(n.target) for n in program.graph.nodes)\n"
        },
        "test_it_lowers_and_runs",
        "without quantized operators, and return",
    ),
    "loses the origins": (
        {"LoweredOperator(origin(node), name": "LoweredOperator(None, name"},
        "test_it_runs_in_int8",
        "must give each LoweredOperator its origin",
    ),
    "lowers for everybody": (
        {'lower(program) if backend == "toy" else None': "lower(program)"},
        "test_it_adds_to_no_other_backend",
        "Return None there",
    ),
}


def own_suite(source: str, install: Install) -> type[PluginConformance]:
    install("qreg-toy", source)

    class TestToy(PluginConformance):
        plugin = "toy"
        backend = "toy"
        samples: ClassVar[Any] = OWN

    return TestToy


def test_a_good_backend_passes_every_test(distribution: Install) -> None:
    assert ran(own_suite(TOY, distribution)) == Outcome({}, {})


@pytest.mark.parametrize("fault", BACKEND_FAULTS)
def test_a_fault_of_a_backend_is_caught_by_the_test_that_is_about_it(
    fault: str, distribution: Install
) -> None:
    changes, about, says = BACKEND_FAULTS[fault]
    source = TOY
    for old, new in changes.items():
        assert old in source
        source = source.replace(old, new)
    found = ran(own_suite(source, distribution))
    assert list(found.failed) == [about], found.failed
    assert says in found.failed[about]


# Odd graphs


def test_odd_calls_differ_in_what_a_pattern_stumbles_over() -> None:
    said = [what for what, _ in odd_calls("aten.add.Tensor")]
    assert len(said) == len(set(said)) > 20
    for oddity in ("no dimensions", "no elements", "int64", "bool", "constants", "everywhere"):
        assert any(oddity in what for what in said)


def test_every_odd_model_computes() -> None:
    for what, program in odd_models().items():
        assert program.example_inputs is not None
        program.module(check_guards=False)(*program.example_inputs[0])
        assert what.startswith("a model with")


# Annotating by hand


def test_decisions_are_asserted_by_the_operators_name(registry: Registry) -> None:
    found = annotate(
        nn.Sequential(nn.Linear(4, 4), nn.Tanh()), ROW, backend="toy", registry=registry
    )
    found.assert_quantized("aten.linear.default", by="linear")
    found.assert_quantized("linear")
    found.assert_float("aten.tanh", because="toy has no annotator for aten.tanh.default")


def test_a_wrong_assertion_shows_what_is_so(registry: Registry) -> None:
    found = annotate(
        nn.Sequential(nn.Linear(4, 4), nn.Tanh()), ROW, backend="toy", registry=registry
    )
    with pytest.raises(AssertionError, match="tanh stays in float: toy has no annotator"):
        found.assert_quantized("tanh")
    with pytest.raises(AssertionError, match="quantized by 'linear', not by 'other'"):
        found.assert_quantized("linear", by="other")
    with pytest.raises(AssertionError, match="linear is quantized by 'linear'"):
        found.assert_float("linear")
    with pytest.raises(AssertionError, match="stays in float because: toy has no"):
        found.assert_float("tanh", because="something else")
    with pytest.raises(AssertionError, match="no conv2d, only\n  linear"):
        found.of("conv2d")


def test_a_quantizer_with_scopes_is_taken_as_it_is(registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry).set_module_name("0", None)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    first, second = annotate(model, ROW, quantizer=quantizer).of("linear")
    assert (first.status, second.status) == ("float", "annotated")


def test_the_module_of_a_graph_stays_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    graph_of(module, ROW, train=True)
    assert not module.training
    assert module[1].num_batches_tracked == 0


def test_the_kit_does_not_import_pytest() -> None:
    code = "import sys, qreg.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
