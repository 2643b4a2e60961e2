"""Pins how backends, configs and annotators are found by name, and the order of annotators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from qreg import Annotator, Lowered, Registry, Requirement, SupportedConfig, errors
from qreg.annotators.patterns import operands
from qreg.plugins.manager import PluginWarning
from qreg.plugins.ordering import in_order
from qreg.plugins.plugin import Plugin
from qreg.plugins.supplied import Supplied

orders, positions = st.permutations(range(6)), st.integers(0, 5)

OWN = ["linear_relu", "linear", "add", "relu"]


def annotator(name: str, **options: Any) -> Annotator:
    return Annotator(name, ["aten.mul.Tensor"], operands(0, 1), **options)


def extended(toy: ModuleType, **plugins: object) -> Registry:
    return Registry({"toy": toy, **plugins}, entry_points=False)


def asked(registry: Registry) -> list[str]:
    return [supplied.value.name for supplied in registry.annotators("toy")]


@pytest.fixture
def program() -> torch.export.ExportedProgram:
    return torch.export.export(torch.nn.ReLU(), (torch.zeros(2),))


def test_an_unknown_backend_names_those_that_are_known(registry: Registry) -> None:
    with pytest.raises(errors.UnknownNameError) as caught:
        registry.backend("tpy")
    message = str(caught.value)
    assert "Did you mean 'toy'" in message
    assert "Known: toy" in message
    assert "pip install" not in message
    assert caught.value.known == ["toy"]


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("xnnpack", "qreg-xnnpack"),
        ("xnnpack2", "qreg-xnnpack"),
        ("XNNPACK", "qreg-xnnpack"),
        ("xnn", "qreg-xnnpack"),
        ("x86-inductor", "qreg-x86-inductor"),
        ("onnx", "qreg-onnxruntime"),
        ("openvno", "qreg-openvino"),
        ("ethos_u85", "qreg-arm"),
        ("ethos-u5", "qreg-arm"),
    ],
)
def test_an_absent_backend_of_ours_names_its_distribution(
    name: str, distribution: str, registry: Registry
) -> None:
    with pytest.raises(errors.UnknownNameError) as caught:
        registry.backend(name)
    assert str(caught.value).endswith(f"pip install {distribution}")


@pytest.mark.parametrize("name", ["coreml", "qnn", "", "cuda-11", "toy2"])
def test_no_distribution_is_made_up_from_the_name_of_a_backend(
    name: str, registry: Registry
) -> None:
    with pytest.raises(errors.UnknownNameError, match="`qreg list` shows") as caught:
        registry.backend(name)
    assert "pip install" not in str(caught.value)


def test_an_installed_backend_is_not_advised_to_be_installed(toy: ModuleType) -> None:
    installed = toy.Extension([evolve(toy.BACKEND, name="xnnpack")])
    with pytest.raises(errors.UnknownNameError, match="Did you mean 'xnnpack'") as caught:
        extended(toy, installed=installed).backend("xnnpack2")
    assert "pip install" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "nearest"), [("Linear-ReLU", "linear_relu"), ("lin", "linear"), ("lienar", "linear")]
)
def test_near_names_allow_for_case_hyphens_and_shortening(name: str, nearest: str) -> None:
    assert nearest in errors.near(name, OWN)


def test_an_unknown_backend_is_a_lookup_error(registry: Registry) -> None:
    with pytest.raises(LookupError):
        registry.backend("tpu")


def test_an_unknown_config_says_what_is_known(registry: Registry) -> None:
    with pytest.raises(errors.UnknownNameError, match="Did you mean 'minmax'") as caught:
        registry.config("toy", "minmx")
    assert caught.value.known == ["dynamic", "histogram", "minmax", "qat"]
    assert "qreg ops toy" in str(caught.value)


def test_default_is_the_config_that_the_backend_names(registry: Registry) -> None:
    assert registry.config("toy", "default").name == "minmax"


def test_any_plugin_may_add_a_config(toy: ModuleType) -> None:
    mine = SupportedConfig("mine", "", "static", lambda: toy.int8("MinMaxObserver"))
    registry = extended(toy, more=toy.Extension(configs=[mine]))
    assert registry.config("toy", "mine") is mine
    assert list(registry.configs("toy"))[-1] == "mine"


def test_the_owners_annotators_are_asked_first_and_others_by_plugin_name(toy: ModuleType) -> None:
    zebra = toy.Extension(annotators=[annotator("striped")])
    apple = toy.Extension(annotators=[annotator("red"), annotator("green")])
    assert asked(extended(toy, zebra=zebra, apple=apple)) == [*OWN, "red", "green", "striped"]


def test_an_annotator_may_ask_to_be_before_another_plugins(toy: ModuleType) -> None:
    mine = toy.Extension(annotators=[annotator("mine", before=["linear"])])
    assert asked(extended(toy, mine=mine)) == ["linear_relu", "mine", "linear", "add", "relu"]


def test_an_annotator_may_ask_to_be_after_another_plugins(toy: ModuleType) -> None:
    early = toy.Extension(annotators=[annotator("early", after=["late"])])
    late = toy.Extension(annotators=[annotator("late")])
    assert asked(extended(toy, a=early, b=late)) == [*OWN, "late", "early"]


def test_a_cycle_of_annotators_is_shown(toy: ModuleType) -> None:
    one, two = annotator("one", before=["two"]), annotator("two", before=["one"])
    registry = extended(toy, more=toy.Extension(annotators=[one, two]))
    with pytest.raises(errors.OrderError, match=r"(one -> two -> one|two -> one -> two)"):
        registry.annotators("toy")


def test_an_order_towards_an_annotator_that_is_not_there_is_ignored(toy: ModuleType) -> None:
    mine = annotator("mine", before=["nobody"], after=["no one"])
    assert asked(extended(toy, more=toy.Extension(annotators=[mine]))) == [*OWN, "mine"]


PLUGIN = Plugin("p", "d", "1.0", load=object)


@given(orders, orders, st.sets(st.tuples(positions, positions)))
def test_every_order_without_a_cycle_is_kept(
    given_order: list[int], wanted: list[int], pairs: set[tuple[int, int]]
) -> None:
    rules = [(wanted[i], wanted[j]) for i, j in pairs if i < j]
    supplied = [
        Supplied(annotator(str(n), before=[str(b) for a, b in rules if a == n]), PLUGIN)
        for n in given_order
    ]
    ordered = [int(each.value.name) for each in in_order(supplied, "annotators")]
    assert sorted(ordered) == list(range(6))
    assert all(ordered.index(first) < ordered.index(second) for first, second in rules)


@given(orders)
def test_without_wishes_the_given_order_stays(given_order: list[int]) -> None:
    supplied = [Supplied(annotator(str(n)), PLUGIN) for n in given_order]
    assert in_order(supplied, "annotators") == supplied


def test_a_plugin_that_takes_anothers_annotator_name_is_left_out(toy: ModuleType) -> None:
    thief = toy.Extension(annotators=[annotator("linear")])
    registry = extended(toy, thief=thief)
    with pytest.warns(PluginWarning, match="'thief'"):
        assert asked(registry) == OWN
    assert {p.name: p.error is None for p in registry.plugins} == {"thief": False, "toy": True}


def test_a_plugin_that_yields_one_name_twice_is_left_out(toy: ModuleType) -> None:
    double = toy.Extension(annotators=[annotator("mine"), annotator("mine")])
    with pytest.warns(PluginWarning, match="'double'"):
        assert asked(extended(toy, double=double)) == OWN


def test_an_annotator_replaces_another_only_by_saying_so(toy: ModuleType) -> None:
    better = evolve(annotator("better"), replaces=["linear"])
    registry = extended(toy, better=toy.Extension(annotators=[better]))
    names = asked(registry)
    assert "linear" not in names
    assert names == [*(name for name in OWN if name != "linear"), "better"]


@pytest.mark.parametrize("name", ["a", "z"])
def test_replacing_does_not_depend_on_the_names_of_plugins(name: str, toy: ModuleType) -> None:
    """The replaced annotator's plugin is called m, so it comes later, or earlier."""
    better = evolve(annotator("better"), replaces=["theirs"])
    plugins = {name: [better], "m": [annotator("theirs")]}
    extensions = {key: toy.Extension(annotators=value) for key, value in plugins.items()}
    assert asked(extended(toy, **extensions)) == [*OWN, "better"]


def test_an_annotator_may_replace_one_of_its_own_name(toy: ModuleType) -> None:
    same = evolve(annotator("linear"), replaces=["linear"])
    registry = extended(toy, other=toy.Extension(annotators=[same]))
    assert asked(registry).count("linear") == 1
    (kept,) = (each for each in registry.annotators("toy") if each.value.name == "linear")
    assert kept.plugin == "other"


def test_of_two_that_replace_one_the_second_is_left_out(toy: ModuleType) -> None:
    one, two = (evolve(annotator(name), replaces=["linear"]) for name in ("one", "two"))
    plugins = {"a": toy.Extension(annotators=[one]), "b": toy.Extension(annotators=[two])}
    registry = extended(toy, **plugins)
    with pytest.warns(PluginWarning, match="replaces 'linear', which 'in-process' has replaced"):
        names = asked(registry)
    assert "one" in names
    assert "two" not in names


@pytest.mark.parametrize("module", ["no_such_runtime", "no_such_runtime.inner"])
def test_a_missing_runtime_names_the_pip_line(module: str, toy: ModuleType) -> None:
    backend = evolve(toy.BACKEND, name="far", requires=[Requirement(module, "far-runtime==2")])
    registry = extended(toy, far=toy.Extension([backend]))
    with pytest.raises(errors.BackendUnavailableError, match="pip install 'far-runtime==2'"):
        registry.check_installed("far")


def test_a_runtime_that_is_there_passes(toy: ModuleType) -> None:
    backend = evolve(toy.BACKEND, name="near", requires=[Requirement("torch.export", "torch")])
    extended(toy, near=toy.Extension([backend])).check_installed("near")


def test_a_failing_lowering_is_a_lowering_error_with_its_cause(
    toy: ModuleType, program: torch.export.ExportedProgram
) -> None:
    def fail(_: object) -> Lowered:
        raise ArithmeticError("cannot be lowered")

    owner = toy.Extension([evolve(toy.BACKEND, name="other")], lowering=fail, extends="other")
    says = r"'other' could not .*: cannot be lowered \(in qreg_lower of distribution 'in-process'\)"
    with pytest.raises(errors.LoweringError, match=says) as caught:
        extended(toy, owner=owner).call_lower("other", program, {})
    assert isinstance(caught.value.__cause__, ArithmeticError)


def test_a_failing_lowering_names_distribution_version_and_hook(
    distribution: Callable[..., Path], program: torch.export.ExportedProgram
) -> None:
    source = (
        "from qreg import Backend, hookimpl\n@hookimpl\ndef qreg_backends():\n"
        "    yield Backend('far', '', 'none', 'nothing', '.far')\n"
        "@hookimpl\ndef qreg_lower(backend, program):\n    raise KeyError('no kernel')\n"
    )
    distribution("qreg-far", source, version="2.1")
    with pytest.raises(errors.LoweringError, match=r"distribution 'qreg-far' 2\.1") as caught:
        Registry(load=["far"]).call_lower("far", program, {})
    found = caught.value.suspecting("conv")
    assert (found.plugin, found.distribution, found.version) == ("far", "qreg-far", "2.1")
    assert (found.hook, found.suspects) == ("qreg_lower", ("conv",))
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_lowering_to_something_else_names_the_plugin(
    toy: ModuleType, program: torch.export.ExportedProgram
) -> None:
    backend = evolve(toy.BACKEND, name="other")
    owner = toy.Extension([backend], lowering=lambda _: b"bytes", extends="other")
    with pytest.raises(errors.LoweringError, match="'owner' lowered to b'bytes'"):
        extended(toy, owner=owner).call_lower("other", program, {})


def test_a_backend_that_nobody_lowers_for_is_a_lowering_error(
    toy: ModuleType, program: torch.export.ExportedProgram
) -> None:
    registry = extended(toy, owner=toy.Extension([evolve(toy.BACKEND, name="other")]))
    with pytest.raises(errors.LoweringError, match="no plugin lowers for backend 'other'"):
        registry.call_lower("other", program, {})


def test_the_owner_of_a_backend_is_asked_to_lower_first(
    toy: ModuleType, program: torch.export.ExportedProgram
) -> None:
    rival = toy.Extension(lowering=lambda _: Lowered(b"rival", 0))
    assert extended(toy, a_rival=rival).call_lower("toy", program, {}).program != b"rival"


def test_another_plugin_may_lower_for_a_backend_without_lowering(
    toy: ModuleType, program: torch.export.ExportedProgram
) -> None:
    owner = toy.Extension([evolve(toy.BACKEND, name="other")])
    helper = toy.Extension(lowering=lambda _: Lowered(b"helped", 1), extends="other")
    registry = extended(toy, owner=owner, helper=helper)
    assert registry.call_lower("other", program, {}) == Lowered(b"helped", 1)


def test_plugins_without_names_are_an_error() -> None:
    with pytest.raises(errors.InputError, match=r"plugins: they have no names \(expected a dict\)"):
        Registry([object()])  # type: ignore[arg-type]
