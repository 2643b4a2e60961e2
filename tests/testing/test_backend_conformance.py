"""Pins the kit for authors of backends: each fault is caught by the test that is about it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from conformance import LINEAR, ROW, TOY, Install, Outcome, ran
from torch import nn

from qreg.testing import PluginConformance, Sample

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
        "'>>torch' is not an argument",
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
        "a module that is called twice returns other values",
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
    found = ran(own_suite(source, distribution), only=about)
    assert list(found.failed) == [about], found.failed
    assert says in found.failed[about]
