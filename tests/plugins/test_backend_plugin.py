"""Pins plugins that are one object: they answer for their backend, and for no other."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from attrs import evolve
from torch import nn

import qreg
from qreg import BackendPlugin, Extension, Registry
from qreg.plugins.manager import PluginWarning

INPUT = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


def registry(toy: ModuleType, **more: object) -> Registry:
    mine = BackendPlugin(toy.BACKEND, toy.CONFIGS, annotators=toy.ANNOTATORS, lower=toy.lower)
    return Registry({"toy": mine, **more}, entry_points=False)


def test_a_backend_in_one_object_runs_the_full_pipeline(toy: ModuleType) -> None:
    model = nn.Linear(8, 4).eval()
    result = qreg.quantize(
        model, INPUT, backend="toy", calibration=[INPUT], registry=registry(toy), progress=False
    )
    assert [each.annotator for each in result.decisions] == ["linear"]
    torch.testing.assert_close(result.run(INPUT), model(INPUT), rtol=0, atol=0.05)


def test_it_answers_for_its_own_backend_only(toy: ModuleType) -> None:
    other = BackendPlugin(evolve(toy.BACKEND, name="other"), ())
    found = registry(toy, other=other)
    assert found.configs("other") == {}
    assert found.annotators("other") == ()
    assert list(found.configs("toy")) == [each.name for each in toy.CONFIGS]


def test_options_for_lowering_arrive_by_name(toy: ModuleType) -> None:
    seen = {}

    def lower(program: torch.export.ExportedProgram, level: int) -> qreg.Lowered:
        seen["level"] = level
        return qreg.Lowered(b"", 0)

    option = qreg.Option("level", 1, "of effort")
    backend = evolve(toy.BACKEND, name="other", options=(option,))
    found = registry(toy, other=BackendPlugin(backend, (), lower=lower))
    qreg.lower(nn.ReLU(), INPUT, backend="other", options={"level": 3}, registry=found)
    assert seen == {"level": 3}


def test_a_backend_without_a_lowering_leaves_it_to_other_plugins(toy: ModuleType) -> None:
    backend = evolve(toy.BACKEND, name="other")
    found = registry(toy, other=BackendPlugin(backend, ()))
    with pytest.raises(qreg.errors.LoweringError, match="no plugin lowers for backend 'other'"):
        qreg.lower(nn.ReLU(), INPUT, backend="other", registry=found)


def test_configs_may_be_a_function_that_is_called_when_they_are_listed(toy: ModuleType) -> None:
    calls = []

    def configs() -> tuple[qreg.SupportedConfig, ...]:
        calls.append(1)
        return (evolve(toy.CONFIGS[0], name="mine"),)

    found = registry(toy, mine=Extension("toy", configs))
    assert not calls
    assert "mine" in found.configs("toy")
    assert calls


def test_an_extension_adds_annotators_to_the_backend_of_a_name(toy: ModuleType) -> None:
    negated = qreg.Annotator("negated", ["aten.neg.default"], qreg.patterns.operands(0))
    found = registry(toy, mine=Extension("toy", annotators=(negated,)))
    assert "negated" in [each.value.name for each in found.annotators("toy")]


def test_an_extension_of_an_unknown_backend_is_reported(toy: ModuleType) -> None:
    found = registry(toy, mine=Extension("tooy", toy.CONFIGS))
    with pytest.warns(PluginWarning, match=r"unknown \(near: 'toy'\)"):
        found.examine()


def test_what_is_not_a_backend_is_named_when_the_plugin_is_made() -> None:
    with pytest.raises(TypeError, match="backend"):
        BackendPlugin("toy", ())  # type: ignore[arg-type]
