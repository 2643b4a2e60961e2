"""Pins what happens to names that are claimed twice, and to plugins that are installed twice."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest
from attrs import evolve
from click.testing import CliRunner

from qreg import Annotator, Registry, SupportedConfig, errors
from qreg.annotators.patterns import operands
from qreg.cli.main import main
from qreg.plugins.catalog import plugin_rows
from qreg.plugins.manager import PluginWarning

HOOK = "from qreg import Backend, hookimpl\n@hookimpl\ndef qreg_backends():\n"
GOOD = "    yield Backend({name!r}, 'a backend', 'none', 'nothing', '.none')\n"

# The plugins of this environment, some of which may be faulty on purpose.
INSTALLED = [each.name for each in entry_points(group="qreg")]

Install = Callable[..., Path]


def supplying(*names: str) -> str:
    return HOOK + "".join(GOOD.format(name=name) for name in names)


def examined(**switches: object) -> tuple[Registry, list[str]]:
    """A registry whose hooks were called, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        registry = Registry(**switches)  # type: ignore[arg-type]
        registry.examine()
    return registry, [str(each.message) for each in caught if each.category is PluginWarning]


def broken(registry: Registry) -> dict[str, str]:
    return {row["plugin"]: row["broken"] for row in plugin_rows(registry)}


# Two plugins, one backend


@pytest.fixture
def rivals(distribution: Install) -> None:
    distribution("qreg-one", supplying("same", "first"), version="1.1")
    distribution("qreg-two", supplying("same", "second"), version="2.2")


RIVALS = ["one", "two"]


@pytest.mark.usefixtures("rivals")
def test_a_backend_that_two_plugins_claim_is_supplied_by_neither_and_reported_once() -> None:
    registry, warned = examined(load=RIVALS)
    assert set(registry.backends()) == {"first", "second"}
    (message,) = warned
    for part in ("'same'", "'qreg-one' and 'qreg-two'", "'one' 1.1 and 'two' 2.2", "none of them"):
        assert part in message


@pytest.mark.usefixtures("rivals")
def test_asking_for_a_claimed_backend_names_both_plugins_and_how_to_skip_one() -> None:
    registry, _ = examined(load=RIVALS)
    with pytest.raises(errors.ConflictError, match="'qreg-one' and 'qreg-two'") as caught:
        registry.backend("same")
    assert "QREG_DISABLE_PLUGINS=one or QREG_DISABLE_PLUGINS=two" in str(caught.value)
    assert caught.value.distributions == ("qreg-one", "qreg-two")


@pytest.mark.usefixtures("rivals")
def test_the_list_shows_the_conflict_at_each_plugin() -> None:
    registry, _ = examined(load=RIVALS)
    shown = broken(registry)
    assert all("'same' is claimed by" in shown[name] for name in RIVALS)


@pytest.mark.usefixtures("rivals")
def test_a_conflict_is_an_error_in_strict_mode() -> None:
    for ask in (Registry.backends, Registry.examine):
        with pytest.raises(errors.ConflictError, match="'same'"):
            ask(Registry(load=RIVALS, strict=True))


@pytest.mark.usefixtures("rivals")
@pytest.mark.parametrize("skipped", ["two", "qreg-two"])
def test_with_one_plugin_skipped_the_other_has_the_backend(skipped: str) -> None:
    registry, warned = examined(load=RIVALS, disable=[skipped])
    assert registry.backend("same").distribution == "qreg-one"
    assert warned == []


def test_the_command_line_lists_a_conflict_and_strict_ends_with_it(distribution: Install) -> None:
    distribution("qreg-one", supplying("same"))
    distribution("qreg-two", supplying("same"))
    options = ["--load-plugins", "one,two"]
    listed = CliRunner().invoke(main, [*options, "list", "--json"])
    assert listed.exit_code == 0
    assert all(line.startswith("Warning: plugin ") for line in listed.stderr.splitlines())
    assert all("'same' is claimed by" in row["broken"] for row in _rows(listed.stdout)[:2])
    strict = CliRunner().invoke(main, [*options, "--strict", "list"])
    assert strict.exit_code == 1
    assert "'qreg-one' and 'qreg-two'" in strict.output


def _rows(text: str) -> list[dict[str, str]]:
    return [row for row in json.loads(text) if row["plugin"] in RIVALS]


# One plugin, one name twice


def annotator(name: str) -> Annotator:
    return Annotator(name, ["aten.mul.Tensor"], operands(0, 1))


@pytest.mark.parametrize("kind", ["backends", "configs", "annotators"])
def test_a_plugin_that_yields_one_name_twice_is_broken(kind: str, toy: ModuleType) -> None:
    values = {
        "backends": evolve(toy.BACKEND, name="mine"),
        "configs": SupportedConfig("mine", "", "static", toy.CONFIGS[0].factory),
        "annotators": annotator("mine"),
    }
    double = toy.Extension(**{kind: [values[kind]] * 2})
    plugins = {"toy": toy, "double": double}
    registry, warned = examined(plugins=plugins, entry_points=False)
    assert set(registry.backends()) == {"toy"}
    assert len(warned) == 1
    assert "it yields two values with the name 'mine'" in warned[0]
    assert "two values with the name 'mine'" in broken(registry)["double"]
    with pytest.raises(errors.PluginError, match="two values with the name 'mine'"):
        Registry(plugins, entry_points=False, strict=True).examine()


def test_what_a_plugin_yielded_before_it_broke_is_not_in_force(toy: ModuleType) -> None:
    config = SupportedConfig("mine", "", "static", toy.CONFIGS[0].factory)
    thief = toy.Extension(configs=[config], annotators=[annotator("linear")])
    registry = Registry({"toy": toy, "thief": thief}, entry_points=False)
    assert "mine" in registry.configs("toy")
    with pytest.warns(PluginWarning, match="that of 'in-process' stays in force"):
        registry.annotators("toy")
    assert "mine" not in registry.configs("toy")


# A plugin that is installed twice


def test_of_a_distribution_that_is_installed_twice_the_first_on_the_path_is_in_force(
    distribution: Install,
) -> None:
    older = distribution("qreg-twice", supplying("older"), version="1.0")
    newer = distribution("qreg-twice", supplying("newer"), version="2.0")
    registry, (message,) = examined(load=["twice"])
    assert set(registry.backends()) == {"newer"}
    assert f"2.0 in {newer.resolve()} stays in force" in message
    assert f"1.0 in {older.resolve()} is ignored" in message
    assert "installed 2 times" in broken(registry)["twice"]
    with pytest.raises(errors.PluginError, match="installed 2 times"):
        Registry(load=["twice"], strict=True)


def test_a_distribution_of_another_spelling_is_the_same(distribution: Install) -> None:
    distribution("qreg-my-twice", supplying("older"), module="twice_older")
    distribution("qreg_my_twice", supplying("newer"), module="twice_newer")
    _, warned = examined(load=["qreg_my_twice"])
    assert any("installed 2 times" in each for each in warned)


def test_a_folder_that_is_on_the_path_twice_is_one_installation(
    distribution: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = distribution("qreg-fine", supplying("fine"))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(folder / ".." / folder.name)
    registry, warned = examined(load=["fine"])
    assert set(registry.backends()) == {"fine"}
    assert warned == []


def test_the_metadata_of_an_editable_project_are_one_installation(
    distribution: Install, tmp_path: Path
) -> None:
    """setuptools leaves an egg-info in the project, which a path file puts on ``sys.path``."""
    project = distribution("qreg-fine", supplying("fine"), version="1.0")
    site = distribution("qreg-fine", "", version="1.1", module="unused")
    (info,) = site.glob("*.dist-info")
    origin = {"url": project.as_uri(), "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(origin))
    (info / "entry_points.txt").write_text("[qreg]\nfine = qreg_fine\n")
    registry, warned = examined(load=["fine"])
    assert set(registry.backends()) == {"fine"}
    assert warned == []


def test_one_entry_point_in_two_distributions_names_both_and_what_stays(
    distribution: Install,
) -> None:
    distribution("qreg-later", supplying("later"), entry_points="[qreg]\nsame = qreg_later\n")
    distribution("qreg-first", supplying("first"), entry_points="[qreg]\nsame = qreg_first\n")
    registry, (message,) = examined(load=["same"])
    assert set(registry.backends()) == {"first"}
    assert "'qreg-later' 1.0 is broken" in message
    assert "'same' already belongs to 'qreg-first' 1.0, which stays in force" in message
    assert "QREG_DISABLE_PLUGINS=qreg-later or qreg-first" in message
    with pytest.raises(errors.PluginError, match="already belongs"):
        Registry(load=["same"], strict=True)
    registry, warned = examined(load=["same"], disable=["qreg-first"])
    assert set(registry.backends()) == {"later"}
    assert warned == []


def test_one_module_under_two_names_is_one_plugin(distribution: Install) -> None:
    entry_points = "[qreg]\none = qreg_fine\ntwo = qreg_fine\n"
    distribution("qreg-fine", supplying("fine"), entry_points=entry_points)
    registry, (message,) = examined(load=["qreg-fine"])
    assert set(registry.backends()) == {"fine"}
    assert "the same object as plugin 'one' of 'qreg-fine' 1.0, which stays in force" in message


# Skipped plugins with faults

FAULTS = {
    "no equals sign": "[qreg]\nfaulty = qreg_faulty\nno equals sign\n",
    "two sections": "[qreg]\nfaulty = qreg_faulty\n[console_scripts]\nnot one\n",
}


@pytest.mark.parametrize("name", ["faulty", "qreg-faulty"])
@pytest.mark.parametrize("fault", [*FAULTS, "stray bytes", "requirement", "version"])
def test_a_disabled_plugin_is_listed_as_disabled_whatever_its_metadata_are(
    fault: str, name: str, distribution: Install, toy: ModuleType
) -> None:
    install_faulty(fault, distribution)
    disabled = [name, *INSTALLED]  # a fault of another would be an error
    registry, warned = examined(plugins={"toy": toy}, disable=disabled, strict=True)
    assert warned == []
    rows = [row for row in plugin_rows(registry) if row["distribution"] == "qreg-faulty"]
    assert [(row["plugin"], row["broken"]) for row in rows] == [("faulty", "")]
    assert "disabled" in rows[0]["left out"]


@pytest.mark.parametrize("fault", [*FAULTS, "stray bytes", "requirement", "version"])
def test_a_plugin_with_a_metadata_fault_is_broken_if_it_is_not_disabled(
    fault: str, distribution: Install, toy: ModuleType
) -> None:
    install_faulty(fault, distribution)
    registry, (message,) = examined(plugins={"toy": toy}, load=["faulty", "toy"])
    assert "plugin 'faulty' of distribution 'qreg-faulty' 1.0 is broken" in message
    assert broken(registry)["faulty"]
    assert "toy" in registry.backends()


def install_faulty(fault: str, distribution: Install) -> None:
    folder = distribution("qreg-faulty", "raise SystemExit('never loaded')")
    (points,) = folder.glob("*.dist-info/entry_points.txt")
    metadata = points.with_name("METADATA")
    if fault == "stray bytes":
        points.write_bytes(b"[qreg]\nfaulty = qreg_faulty\nother\xff\xfe\n")
    elif fault in FAULTS:
        points.write_text(FAULTS[fault])
    else:
        wanted = {"requirement": "qreg-core ?! 3", "version": "qreg-core>=99"}[fault]
        metadata.write_text(f"{metadata.read_text()}Requires-Dist: {wanted}\n")
