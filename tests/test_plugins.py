"""Pins how plugins are found and loaded: a broken one is named, and takes no other down."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.fx import GraphModule

from qreg import Registry, errors, get_quantizer
from qreg.plugins import PluginWarning

HEAD = "from qreg import Backend, hookimpl\n"
HOOK = f"{HEAD}@hookimpl\ndef qreg_backends():\n"
GOOD = "Backend({name!r}, 'a backend', 'none', 'nothing', '.none')"

# How a plugin may fail, and what its error says of it.
FAULTS: dict[str, tuple[str, str]] = {
    "raises on import": ("raise RuntimeError('no luck')", "no luck"),
    "does not import": ("import no_such_module_anywhere", "no_such_module_anywhere"),
    "exits on import": ("raise SystemExit(3)", r"SystemExit\(3\)"),
    "misspells a hook": (f"{HEAD}@hookimpl\ndef qreg_backend(): ...", "'qreg_backend'"),
    "misnames an argument": (f"{HEAD}@hookimpl\ndef qreg_backends(colour): ...", "colour"),
    "forgets the mark": (f"{HEAD}def qreg_backends(): return []", "not marked with @qreg.hookimpl"),
    "raises in a hook": (f"{HOOK}    raise RuntimeError('no luck')", "no luck"),
    "raises midway": (f"{HOOK}    yield {GOOD}\n    raise RuntimeError('no luck')", "no luck"),
    "yields something else": (f"{HOOK}    yield 'xnnpack'", "'xnnpack', which is no Backend"),
    "returns no iterable": (f"{HOOK}    return 3", "int"),
}
RAISING = [fault for fault, (source, _) in FAULTS.items() if "hookimpl" not in source]
RAISING += ["misnames an argument", "raises in a hook", "raises midway", "yields something else"]

Install = Callable[..., Path]


def good(name: str) -> str:
    return f"{HOOK}    yield {GOOD}\n".format(name=name)


def broken_registry(install: Install, fault: str, **others: object) -> Registry:
    """A registry of the installed plugins, one of which has a fault, with its hooks called."""
    install("qreg-broken", FAULTS[fault][0].format(name="broken"))
    with pytest.warns(PluginWarning, match="plugin 'broken' of distribution 'qreg-broken'"):
        return asked(Registry(others))


def asked(registry: Registry) -> Registry:
    registry.backends()
    return registry


def test_a_backend_is_found_with_its_plugin_and_distribution(distribution: Install) -> None:
    distribution("qreg-fine", good("fine"))
    supplied = Registry().backend("fine")
    assert (supplied.plugin, supplied.distribution) == ("fine", "qreg-fine")


def test_a_plugin_is_listed_with_its_version(distribution: Install) -> None:
    distribution("qreg-fine", good("fine"), version="2.5")
    (plugin,) = (plugin for plugin in Registry().plugins if plugin.name == "fine")
    assert (plugin.distribution, plugin.version, plugin.error) == ("qreg-fine", "2.5", None)


def test_without_entry_points_only_the_given_plugins_count(
    distribution: Install, toy: ModuleType
) -> None:
    distribution("qreg-fine", good("fine"))
    assert list(Registry({"toy": toy}, entry_points=False).backends()) == ["toy"]


def test_two_registries_do_not_share_plugins(toy: ModuleType, registry: Registry) -> None:
    assert not Registry(entry_points=False).backends()
    assert list(registry.backends()) == ["toy"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_plugin_takes_no_other_down(
    fault: str, distribution: Install, toy: ModuleType
) -> None:
    distribution("qreg-fine", good("fine"))
    backends = broken_registry(distribution, fault, toy=toy).backends()
    assert {"fine", "toy"} <= set(backends)
    assert "broken" not in backends


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_plugin_stays_listed_with_what_is_wrong(fault: str, distribution: Install) -> None:
    registry = broken_registry(distribution, fault)
    (plugin,) = (plugin for plugin in registry.plugins if plugin.name == "broken")
    assert plugin.error is not None
    assert re.search(FAULTS[fault][1], plugin.error.problem)


@pytest.mark.parametrize("fault", FAULTS)
def test_asking_for_a_broken_plugins_backend_says_that_it_is_broken(
    fault: str, distribution: Install
) -> None:
    registry = broken_registry(distribution, fault)
    with pytest.raises(errors.PluginError, match="pip uninstall qreg-broken") as caught:
        registry.backend("broken")
    assert (caught.value.plugin, caught.value.distribution) == ("broken", "qreg-broken")


@pytest.mark.parametrize("fault", RAISING)
def test_the_error_of_a_plugin_has_its_cause(fault: str, distribution: Install) -> None:
    registry = broken_registry(distribution, fault)
    with pytest.raises(errors.PluginError) as caught:
        registry.backend("broken")
    assert caught.value.__cause__ is not None


def test_a_broken_plugin_warns_once(distribution: Install) -> None:
    registry = broken_registry(distribution, "raises in a hook")
    assert "broken" not in registry.backends()  # a second warning would be an error here


@pytest.mark.parametrize("hook", ["qreg_supported_configs", "qreg_annotators"])
def test_a_backend_whose_own_plugin_breaks_later_is_a_plugin_error(
    hook: str, distribution: Install, capture: Callable[..., GraphModule]
) -> None:
    failing = f"@hookimpl\ndef {hook}(backend): raise OSError(5)\n"
    distribution("qreg-late", good("late") + failing)
    config = "default" if hook == "qreg_supported_configs" else None
    graph_module = capture(torch.nn.ReLU(), torch.zeros(2))
    registry = Registry()
    with (
        pytest.warns(PluginWarning, match="'qreg-late'"),
        pytest.raises(errors.PluginError, match="'late'"),
    ):
        get_quantizer("late", config, registry=registry).annotate(graph_module)


def test_an_interrupt_while_loading_is_not_swallowed(distribution: Install) -> None:
    distribution("qreg-slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Registry()


@pytest.mark.parametrize("text", ["[qreg]\nno equals sign\n", "[qreg]\nbroken = not a path:::\n"])
def test_a_malformed_entry_points_file_breaks_its_own_distribution(
    text: str, distribution: Install, toy: ModuleType
) -> None:
    distribution("qreg-broken", "", entry_points=text)
    with pytest.warns(PluginWarning, match="'qreg-broken'"):
        registry = Registry({"toy": toy})
    assert "toy" in registry.backends()
    assert "qreg-broken" in [plugin.distribution for plugin in registry.plugins if plugin.error]


def test_an_entry_points_file_of_stray_bytes_breaks_its_own_distribution(
    distribution: Install, toy: ModuleType
) -> None:
    folder = distribution("qreg-broken", "")
    (written,) = folder.glob("*.dist-info/entry_points.txt")
    written.write_bytes(b"[qreg]\nbroken = \xff\xfe\n")
    with pytest.warns(PluginWarning, match="qreg-broken"):
        registry = Registry({"toy": toy})
    assert "toy" in registry.backends()


def test_of_two_plugins_with_one_name_the_first_on_the_path_counts(distribution: Install) -> None:
    distribution("qreg-later", good("later"), entry_points="[qreg]\nsame = qreg_later\n")
    distribution("qreg-first", good("first"), entry_points="[qreg]\nsame = qreg_first\n")
    with pytest.warns(PluginWarning, match="'qreg-later'.*already belongs to 'qreg-first'"):
        registry = Registry()
    assert "first" in registry.backends()
    assert "later" not in registry.backends()


def test_a_plugin_given_in_process_goes_before_an_installed_one(
    distribution: Install, toy: ModuleType
) -> None:
    distribution("qreg-toy", good("other"), module="qreg_other_toy")
    with pytest.warns(PluginWarning, match="already belongs to 'in-process'"):
        registry = Registry({"toy": toy})
    assert registry.backend("toy").distribution == "in-process"


def test_a_distribution_found_twice_counts_once(distribution: Install) -> None:
    distribution("qreg-twice", good("older"), version="1.0")
    distribution("qreg-twice", good("newer"), version="2.0")
    registry = Registry()
    assert [p.version for p in registry.plugins if p.name == "twice"] == ["2.0"]
    assert "newer" in registry.backends()
