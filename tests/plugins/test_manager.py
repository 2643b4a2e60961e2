"""Pins how plugins are found and loaded: a broken one is named, and takes no other down."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
import torch
from attrs import evolve
from torch.fx import GraphModule

from qreg import Registry, errors, get_quantizer
from qreg.plugins.manager import PluginWarning

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
    "yields something else": (f"{HOOK}    yield 'xnnpack'", r"'xnnpack' \(expected Backend\)"),
    "returns no iterable": (f"{HOOK}    return 3", "int"),
    "yields a name twice": (
        f"{HOOK}    yield {GOOD}\n"
        "@hookimpl\ndef qreg_annotators(backend):\n"
        "    from qreg import Annotator\n"
        "    yield from [Annotator('a', ['aten.add.Tensor'], id)] * 2\n",
        "two values with the name 'a'",
    ),
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
    registry.examine()
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


def test_a_fault_is_said_with_the_version_and_the_hook(distribution: Install) -> None:
    distribution("qreg-broken", FAULTS["raises in a hook"][0], version="3.1")
    said = (
        r"plugin 'broken' of distribution 'qreg-broken' 3\.1 is broken, in qreg_backends: .*no luck"
    )
    with pytest.warns(PluginWarning, match=said):
        registry = asked(Registry())
    (plugin,) = (plugin for plugin in registry.plugins if plugin.name == "broken")
    assert plugin.error is not None
    assert (plugin.error.version, plugin.error.hook) == ("3.1", "qreg_backends")


@pytest.mark.parametrize("fault", FAULTS)
def test_in_strict_mode_every_fault_is_an_error(
    fault: str, distribution: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QREG_STRICT", "1")
    distribution("qreg-broken", FAULTS[fault][0].format(name="broken"))
    with pytest.raises(errors.PluginError, match="'qreg-broken'"):
        Registry(load=["broken"]).examine()


@pytest.mark.parametrize(
    "wanted",
    ["qreg-core>=2", "Qreg_Core<0.1", "qreg-core[extra]>=7 ; python_version>'3'", "qreg>=0.1"],
)
def test_a_plugin_made_for_another_version_of_qreg_is_broken(
    wanted: str, distribution: Install, toy: ModuleType
) -> None:
    folder = distribution("qreg-old", "raise SystemExit('never loaded')")
    (metadata,) = folder.glob("*.dist-info/METADATA")
    metadata.write_text(metadata.read_text() + f"Requires-Dist: {wanted}\n")
    with pytest.warns(PluginWarning, match="'qreg-old' 1.0 is broken: it requires '?qreg"):
        registry = Registry({"toy": toy})
    assert "toy" in registry.backends()


def test_a_plugin_made_for_this_version_is_loaded(distribution: Install) -> None:
    folder = distribution("qreg-fine", good("fine"))
    (metadata,) = folder.glob("*.dist-info/METADATA")
    needs = "Requires-Dist: qreg-core>=0.1\nRequires-Dist: qregister>=99\n"
    needs += "Requires-Dist: qreg-core>=7; extra == 'future'\n"
    metadata.write_text(metadata.read_text() + needs)
    assert "fine" in Registry().backends()


# Switches


def test_only_the_plugins_that_are_to_be_loaded_are(
    distribution: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution("qreg-fine", good("fine"))
    distribution("qreg-other", "raise SystemExit('never loaded')")
    monkeypatch.setenv("QREG_LOAD_PLUGINS", "fine, ")
    registry = Registry()
    assert list(registry.backends()) == ["fine"]
    (other,) = (plugin for plugin in registry.plugins if plugin.name == "other")
    assert "QREG_LOAD_PLUGINS" in str(other.left_out)


def test_an_empty_list_loads_none(distribution: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution("qreg-fine", good("fine"))
    monkeypatch.setenv("QREG_LOAD_PLUGINS", "")
    assert not Registry().backends()
    assert "fine" in Registry(load=["fine"]).backends()  # what is given goes before


def test_a_plugin_to_load_that_is_not_there_is_an_error(distribution: Install) -> None:
    distribution("qreg-fine", good("fine"))
    with pytest.raises(errors.UnknownNameError, match=r"unknown plugin 'fin'.*'fine'"):
        Registry(load=["fin"])


def test_a_disabled_plugin_is_never_loaded_and_asking_for_it_says_so(
    distribution: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution("qreg-off", "raise SystemExit('never loaded')")
    monkeypatch.setenv("QREG_DISABLE_PLUGINS", "off")
    with pytest.raises(errors.UnknownNameError, match="A plugin of that name is disabled"):
        Registry().backend("off")


@pytest.mark.parametrize("switch", ["load", "disable"])
def test_one_name_where_a_list_belongs_is_an_error(switch: str) -> None:
    with pytest.raises(errors.InputError, match=r"Write \['xnnpack'\]"):
        Registry(entry_points=False, **{switch: "xnnpack"})  # type: ignore[arg-type]


def test_an_object_given_in_process_is_not_advised_to_be_uninstalled(toy: ModuleType) -> None:
    mine = toy.Extension(["not a backend"])
    with pytest.raises(errors.PluginError, match="Correct the object") as caught:
        Registry({"mine": mine}, entry_points=False, strict=True).backends()
    assert "pip" not in str(caught.value)
    rivals = {name: toy.Extension([toy.BACKEND]) for name in ("mine", "yours")}
    with pytest.raises(errors.ConflictError, match=r"Skip all but one: QREG_\w+=mine or") as caught:
        Registry(rivals, entry_points=False, strict=True).backend("toy")
    assert "ninstall" not in str(caught.value)


def test_plugins_given_in_process_can_be_left_out_too(toy: ModuleType) -> None:
    assert not Registry({"toy": toy}, entry_points=False, disable=["toy"]).backends()


def test_registries_work_side_by_side_in_threads(toy: ModuleType) -> None:
    """Each thread has a registry with its own plugins; all threads call theirs at once."""

    def ask(number: int) -> list[str]:
        name = f"toy{number}"
        plugin = toy.Extension(
            [evolve(toy.BACKEND, name=name)], toy.CONFIGS, toy.ANNOTATORS, extends=name
        )
        registry = Registry({name: plugin}, entry_points=False)
        found = [each.value.name for each in registry.annotators(name) for _ in range(20)]
        return [*registry.backends(), *registry.configs(name), found[0]]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(32)))
    wanted = [*(config.name for config in toy.CONFIGS), toy.ANNOTATORS[0].name]
    assert answers == [[f"toy{number}", *wanted] for number in range(32)]


# Who did what


def test_each_call_of_a_hook_is_traced(
    distribution: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    distribution("qreg-fine", good("fine"), version="2.5")
    monkeypatch.setenv("QREG_TRACE", "1")
    asked(Registry(load=["fine"]))
    written = capsys.readouterr().err
    assert re.fullmatch(
        r"qreg: qreg_backends\(\) of plugin fine \(qreg-fine 2\.5\): 1 in \d+\.\d ms\n", written
    )


def test_without_the_switch_nothing_is_traced(
    toy: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(Registry({"toy": toy}, entry_points=False))
    assert capsys.readouterr().err == ""
