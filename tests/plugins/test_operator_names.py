"""Pins that misspelt targets of annotators are reported, and that no torch is needed for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from qreg import Annotator, Registry, errors, get_quantizer
from qreg.annotators.patterns import operands
from qreg.plugins.catalog import plugin_rows
from qreg.plugins.manager import PluginWarning
from qreg.plugins.operator_names import listed, misfit


def test_the_list_in_torchs_wheel_has_the_aten_operators_that_torch_has() -> None:
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::")]
    dotted = (name.replace("::", ".") for name in names)
    registered = {name if name.count(".") == 2 else f"{name}.default" for name in dotted}
    assert registered - listed() == set()


MISFITS = {
    "aten.lineer.default": "is not an operator of torch .*'aten.linear.default'",
    "aten.add.Tensr": "is not an operator of torch .*'aten.add.Tensor'",
    "aten.add": "is not the name of an operator",
    "add": "is not the name of an operator",
    "torch.ops.aten.add.Tensor": "is not the name of an operator",
    "aten::add.Tensor": "is not the name of an operator",
    "aten.relu_.default": "searched for 'aten.relu.default'",
    "": "is not the name of an operator",
}


@pytest.mark.parametrize("target", MISFITS)
def test_a_target_that_no_operator_has_is_reported_with_what_is_near(
    target: str, toy: ModuleType
) -> None:
    targets = ["aten.mul.Tensor", target]
    mine = toy.Extension(annotators=[Annotator("mine", targets, operands(0))])
    plugins = {"toy": toy, "more": mine}
    registry = Registry(plugins, entry_points=False)
    with pytest.warns(PluginWarning, match=f"annotator 'mine': its target .*{MISFITS[target]}"):
        registry.examine()
    assert "mine" in [each.value.name for each in registry.annotators("toy")]
    shown = {row["plugin"]: row["broken"] for row in plugin_rows(registry)}
    assert "its target" in shown["more"]
    assert shown["toy"] == ""
    with pytest.raises(errors.PluginError, match="its target"):
        Registry(plugins, entry_points=False, strict=True).annotators("toy")


@pytest.mark.parametrize(
    "target", ["aten.linear.default", "aten.view_copy.out", "nobodys.operator.default"]
)
def test_operators_that_are_there_and_those_of_other_libraries_are_accepted(target: str) -> None:
    assert misfit(target) is None


def test_listing_a_misspelt_target_reports_it_without_torch(
    distribution: Callable[..., Path], toy: ModuleType
) -> None:
    source = Path(str(toy.__file__)).read_text(encoding="utf-8")
    folder = distribution("qreg-toy", source.replace("aten.add.Tensor", "aten.add.Tensr"))
    code = (
        "import sys; from qreg.cli.main import main; "
        "main(['--load-plugins', 'toy', 'ops', 'toy'], standalone_mode=False); "
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines()[-1] == "False"
    assert "'aten.add.Tensr' is not an operator of torch (near: 'aten.add.Tensor'" in ran.stderr


# Values that are wrong where they are written


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"targets": "aten.add.Tensor"}, r"one string \(expected a tuple.*\('aten.add.Tensor',\)"),
        ({"targets": ()}, "targets"),
        ({"targets": [torch.ops.aten.add.Tensor]}, "Write 'aten.add.Tensor'"),
        ({"modes": "static"}, r"one string .*\('static',\)"),
        ({"modes": ["statik"]}, "modes: 'statik' given .*dynamic, qat, static"),
        ({"modes": []}, "modes: none given"),
        ({"before": "linear"}, r"one string .*\('linear',\)"),
        ({"after": "linear"}, r"one string .*\('linear',\)"),
        ({"replaces": "linear"}, r"one string .*\('linear',\)"),
        ({"rules": [None]}, "rules"),
        ({"match": None}, "match"),
        ({"name": ""}, "name"),
    ],
)
def test_an_annotator_of_a_wrong_value_is_an_error_where_it_is_made(
    fields: dict[str, Any], says: str
) -> None:
    right = {"name": "mine", "targets": ["aten.add.Tensor"], "match": operands(0)}
    with pytest.raises((TypeError, ValueError), match=says):
        Annotator(**{**right, **fields})


def test_an_annotator_of_a_wrong_value_in_a_hook_breaks_its_plugin(toy: ModuleType) -> None:
    from qreg import hookimpl

    class Hasty:
        @hookimpl
        def qreg_annotators(self, backend: str) -> Any:
            yield Annotator("hasty", "aten.add.Tensor", operands(0))

    registry = Registry({"toy": toy, "hasty": Hasty()}, entry_points=False)
    with pytest.warns(PluginWarning, match=r"'hasty' .*in qreg_annotators.*is one string"):
        registry.examine()
    assert "toy" in registry.backends()


# Backends that a plugin adds to


def extension(name: str, how: str) -> Any:
    """A plugin that adds an annotator to a backend, whose name it asks for in some way."""
    from qreg import hookimpl

    asks: dict[str, Callable[[str], bool]] = {
        "equal": lambda backend: backend == name,
        "equal, turned": lambda backend: name == backend,
        "unequal": lambda backend: not backend != name,  # noqa: SIM202
        "in a tuple": lambda backend: backend in ("toy-free", name),
    }

    class Plugin:
        @hookimpl
        def qreg_annotators(self, backend: str) -> Any:
            return (
                [Annotator("mine", ["aten.mul.Tensor"], operands(0))] if asks[how](backend) else []
            )

    return Plugin()


@pytest.mark.parametrize("how", ["equal", "equal, turned", "unequal", "in a tuple"])
def test_a_misspelt_backend_is_reported_with_what_is_near(how: str, toy: ModuleType) -> None:
    plugins = {"toy": toy, "more": extension("tooy", how)}
    registry = Registry(plugins, entry_points=False)
    with pytest.warns(PluginWarning, match=r"in qreg_annotators.*'tooy'.*unknown \(near: 'toy'\)"):
        registry.examine()
    assert "'tooy'" in {row["plugin"]: row["broken"] for row in plugin_rows(registry)}["more"]
    with pytest.raises(errors.PluginError, match="'tooy'"):
        Registry(plugins, entry_points=False, strict=True).examine()


def test_a_backend_that_is_not_installed_is_shown_and_is_no_fault(toy: ModuleType) -> None:
    plugins = {"toy": toy, "more": extension("elsewhere", "equal")}
    registry = Registry(plugins, entry_points=False, strict=True)
    rows = {row["plugin"]: row for row in plugin_rows(registry)}
    assert rows["more"]["broken"] == ""
    assert "'elsewhere', which is not installed" in rows["more"]["left out"]
    assert rows["toy"]["left out"] == ""


def test_a_plugin_that_knows_its_backend_is_not_reported(toy: ModuleType) -> None:
    plugins = {"toy": toy, "more": extension("toy", "equal")}
    registry = Registry(plugins, entry_points=False, strict=True)
    assert [row["broken"] + row["left out"] for row in plugin_rows(registry)] == ["", ""]


def test_a_hook_that_raises_for_a_backend_it_does_not_know_is_broken(toy: ModuleType) -> None:
    from qreg import hookimpl

    class Narrow:
        @hookimpl
        def qreg_annotators(self, backend: str) -> Any:
            return {"toy": []}[backend]

    registry = Registry({"toy": toy, "narrow": Narrow()}, entry_points=False)
    with pytest.warns(PluginWarning, match="for a backend that it does not know"):
        registry.examine()
    assert "toy" in registry.backends()


def test_annotators_in_a_cycle_are_reported_and_the_list_goes_on(toy: ModuleType) -> None:
    one = Annotator("one", ["aten.mul.Tensor"], operands(0), before=["two"])
    two = Annotator("two", ["aten.mul.Tensor"], operands(0), before=["one"])
    plugins = {
        "toy": toy,
        "a": toy.Extension(annotators=[one]),
        "b": toy.Extension(annotators=[two]),
    }
    registry = Registry(plugins, entry_points=False)
    with pytest.warns(PluginWarning, match="has a cycle: "):
        rows = {row["plugin"]: row["broken"] for row in plugin_rows(registry)}
    assert "one -> two" in rows["a"]
    assert "one -> two" in rows["b"]
    assert rows["toy"] == ""


@pytest.mark.parametrize("name", ["aten.lineer.default", "aten.Linear.default"])
def test_a_misspelt_operator_in_a_scope_has_near_names(name: str, registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry)
    with pytest.raises(
        errors.ConfigError, match=r"is not an operator \(near: .*'aten.linear.default'"
    ):
        quantizer.set_operator_type(name, None)
