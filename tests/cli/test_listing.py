"""Pins `qreg list` and `qreg ops`: plugins, configs and patterns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import failed, run, succeeded

from qreg import Registry
from qreg.plugins.registry import installed


def broken_by_name() -> dict[str, str]:
    """What is wrong with each plugin; cells of the table are folded at widths of all columns."""
    return {row["plugin"]: row["broken"] for row in json.loads(succeeded("list", "--json"))}


def test_list_has_one_line_for_a_plugin() -> None:
    (line,) = (line for line in succeeded("list").splitlines() if line.split()[:1] == ["toy"])
    assert line.split()[1:4] == ["qreg-toy", "0.7", "toy"]
    assert "int8 in torch itself" in line


def test_list_prints_json() -> None:
    (row,) = (row for row in json.loads(succeeded("list", "--json")) if row["plugin"] == "toy")
    assert row == {
        "plugin": "toy",
        "distribution": "qreg-toy",
        "version": "0.7",
        "backends": ["toy"],
        "algorithms": [],
        "adds": [],
        "summary": "int8 in torch itself",
        "left out": "",
        "broken": "",
    }


def test_plugins_are_chosen_by_options() -> None:
    def why(*options: str) -> str:
        rows = json.loads(succeeded(*options, "list", "--json"))
        return next(row["left out"] for row in rows if row["plugin"] == "toy")

    assert "not among those to load" in why("--load-plugins", "")
    assert "disabled (--disable-plugins" in why("--disable-plugins", "toy")
    assert run("--disable-plugins", "toy", "ops", "toy").exit_code == 1


def test_a_plugin_to_load_that_is_not_there_is_an_error() -> None:
    result = run("--load-plugins", "toi", "list")
    assert result.exit_code == 1
    assert "Did you mean 'toy'" in result.output


def test_strict_makes_a_broken_plugin_an_error(distribution: Callable[..., Path]) -> None:
    distribution("qreg-broken", "raise RuntimeError('no luck')")
    assert "no luck" in broken_by_name()["broken"]
    result = run("--strict", "list")
    assert result.exit_code == 1
    assert "plugin 'broken' of distribution 'qreg-broken' 1.0 is broken" in result.output


def test_trace_prints_each_call_of_a_hook() -> None:
    result = run("--trace", "ops", "toy")
    assert "qreg: qreg_annotators('toy') of plugin toy (qreg-toy 0.7): 4 in" in result.stderr


def test_ops_says_which_configs_a_pattern_covers_and_what_it_replaces() -> None:
    rows = json.loads(succeeded("ops", "toy", "--json"))["patterns"]
    by_name = {row["annotator"]: row for row in rows}
    assert by_name["linear"]["configs"] == ["minmax", "histogram", "dynamic", "qat"]
    assert by_name["add"]["configs"] == ["minmax", "histogram", "qat"]
    assert {row["distribution"] for row in rows} == {"qreg-toy"}
    assert by_name["linear"]["replaces"] == []


@pytest.mark.parametrize("plugins", [{}, {"empty": object()}], ids=["no plugin", "no backend"])
def test_list_says_how_to_get_a_backend(
    plugins: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "qreg.cli.plugins.current_registry", lambda: Registry(plugins, entry_points=False)
    )
    assert "pip install qreg-xnnpack" in succeeded("list")
    assert [row["plugin"] for row in json.loads(succeeded("list", "--json"))] == list(plugins)


def test_list_shows_what_is_broken(distribution: Callable[..., Path]) -> None:
    distribution("qreg-broken", "raise RuntimeError('no luck')")
    installed.cache_clear()
    output = succeeded("list")
    assert "broken" in output.splitlines()[0].split()
    assert {"qreg-broken", "qreg-toy"} <= set(output.split())
    faults = broken_by_name()
    assert "no luck" in faults["broken"]
    assert faults["broken"].endswith("qreg_broken.py:1")
    assert faults["toy"] == ""


def test_ops_has_the_configs_and_the_patterns() -> None:
    words = succeeded("ops", "toy").split()
    assert {"minmax", "histogram", "dynamic", "qat"} <= set(words)
    assert {"linear_relu", "linear", "add", "relu", "aten.linear.default"} <= set(words)


def test_ops_prints_json() -> None:
    printed = json.loads(succeeded("ops", "toy", "--json"))
    assert [row["config"] for row in printed["configs"] if row["default"]] == ["minmax"]
    assert [row["annotator"] for row in printed["patterns"]] == [
        "linear_relu",
        "linear",
        "add",
        "relu",
    ]
    assert printed["patterns"][2]["operators"] == ["aten.add.Tensor"]
    assert printed["patterns"][2]["modes"] == "qat static"
    assert {row["distribution"] for row in printed["patterns"]} == {"qreg-toy"}


def test_ops_has_the_parameters_of_algorithms_with_their_defaults() -> None:
    listed = json.loads(succeeded("ops", "toy", "--json"))["algorithms"]
    parameters = {row["algorithm"]: row["parameters"] for row in listed}
    assert parameters["gptq"] == {"damping": 0.01, "block": 128}
    assert parameters["ranges"] == {"gains": [0.05, 0.3, 0.6]}
    assert parameters["equalize"] == {}
    assert "damping=0.01" in succeeded("ops", "toy")


def test_ops_of_an_unknown_backend_names_near_ones() -> None:
    assert "Did you mean 'toy'?" in failed("ops", "tou")


ADDING = """
import qreg

@qreg.hookimpl
def qreg_supported_configs(backend):
    if backend == "toy":
        for name in ("one", "two"):
            yield qreg.SupportedConfig(name=name, mode="static", summary=name, factory=dict)

@qreg.hookimpl
def qreg_annotators(backend):
    if backend == "toy":
        target = "aten.sigmoid.default"
        yield qreg.Annotator("sigmoid", [target], qreg.patterns.operands(0))
"""


def test_list_says_what_a_plugin_adds_to_a_backend(distribution: Callable[..., Path]) -> None:
    distribution("qreg-adding", ADDING)
    rows = json.loads(run("list", "--json").stdout)
    assert {row["plugin"]: row["adds"] for row in rows}["adding"] == [
        "2 configs to toy",
        "1 annotator to toy",
    ]
    (line,) = (line for line in succeeded("list").splitlines() if "qreg-adding" in line)
    assert "2 configs to toy" in line


FAULT = """
import json
import qreg

def read():
    return json.loads("no json")

@qreg.hookimpl
def qreg_backends():
    return [read()]
"""


def test_a_fault_of_a_plugin_is_one_line_with_the_line_of_its_author(
    distribution: Callable[..., Path],
) -> None:
    folder = distribution("qreg-faulty", FAULT)
    (warning,) = (line for line in run("list").stderr.splitlines() if "'faulty'" in line)
    assert warning.startswith(
        "Warning: plugin 'faulty' of distribution 'qreg-faulty' 1.0 is broken"
    )
    assert "it raised JSONDecodeError(" in warning
    assert f", at {folder / 'qreg_faulty.py'}:6. Update it" in warning


def test_trace_prints_the_tracebacks_of_faults_and_errors(
    distribution: Callable[..., Path],
) -> None:
    distribution("qreg-faulty", FAULT)
    traced = run("--trace", "list").stderr
    assert "Traceback (most recent call last):" in traced
    assert 'return json.loads("no json")' in traced
    assert "Traceback" in run("--trace", "ops", "tou").stderr
    assert "Traceback" not in run("ops", "tou").stderr
