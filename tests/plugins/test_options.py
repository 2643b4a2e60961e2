"""Pins the options of backends: what is given reaches the lowering or the loading, checked."""

from __future__ import annotations

import io
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import nn

import qreg
from qreg import Backend, Option, Registry, hookimpl
from qreg.errors import InputError, UnknownNameError
from qreg.plugins.options import complete, parsed

OPSET = Option("opset", 21, "of the format", choices=(20, 21))
THREADS = Option("threads", 0, "of the runtime", least=0, at="load")
EXACT = Option("exact", True, "no shortcuts")
SCALE = Option("scale", 1.0, "of nothing")
BACKEND = Backend("far", "", "none", "", ".far", options=(OPSET, THREADS, EXACT, SCALE))


class Optional:
    """The toy backend with options, and what of them arrived."""

    def __init__(self, toy: ModuleType) -> None:
        self.toy, self.lowered_with, self.loaded_with = toy, [], []
        self.backend = evolve(toy.BACKEND, name="far", options=(OPSET, THREADS), load=self.load)

    def load(self, program: bytes, threads: int) -> Any:
        self.loaded_with.append(threads)
        return self.toy.load(program)

    @hookimpl
    def qreg_backends(self) -> list[Backend]:
        return [self.backend]

    @hookimpl
    def qreg_supported_configs(self, backend: str) -> Any:
        return self.toy.CONFIGS if backend == "far" else ()

    @hookimpl
    def qreg_annotators(self, backend: str) -> Any:
        return self.toy.ANNOTATORS if backend == "far" else ()

    @hookimpl
    def qreg_lower(self, backend: str, program: Any, options: dict[str, Any]) -> Any:
        self.lowered_with.append(options)
        return self.toy.lower(program) if backend == "far" else None


@pytest.fixture
def plugin(toy: ModuleType) -> Optional:
    return Optional(toy)


def quantized(plugin: Optional, **options: Any) -> qreg.Result:
    registry = Registry({"far": plugin}, entry_points=False)
    batch = (torch.randn(2, 4),)
    return qreg.quantize(
        nn.Linear(4, 4),
        batch,
        backend="far",
        calibration=[batch],
        options=options,
        progress=False,
        registry=registry,
    )


def test_what_is_not_given_has_its_default() -> None:
    wanted = {"opset": 20, "threads": 0, "exact": True, "scale": 1.0}
    assert complete(BACKEND, {"opset": 20}) == wanted


def test_an_unknown_option_lists_those_that_there_are() -> None:
    with pytest.raises(UnknownNameError, match=r"option of backend 'far': 'opst'.*Did you mean"):
        complete(BACKEND, {"opst": 20})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"opset": 7}, "expected 20 or 21"),
        ({"opset": "20"}, "expected type int"),
        ({"threads": True}, "int"),
        ({"threads": -1}, "0 or more"),
    ],
)
def test_a_value_that_an_option_does_not_take_is_refused(
    given: dict[str, Any], wanted: str
) -> None:
    with pytest.raises(InputError, match=wanted):
        complete(BACKEND, given)


def test_texts_are_read_as_their_options_are() -> None:
    texts = ["opset=20", "exact=no", "scale=0.5"]
    assert parsed(BACKEND, texts) == {"opset": 20, "exact": False, "scale": 0.5}


@pytest.mark.parametrize("text", ["opset", "opset=many", "exact=perhaps"])
def test_a_text_that_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=text.partition("=")[0]):
        parsed(BACKEND, [text])


def test_each_option_reaches_what_it_is_for(plugin: Optional) -> None:
    result = quantized(plugin, opset=20, threads=3)
    assert plugin.lowered_with == [{"opset": 20}]
    assert plugin.loaded_with == [3]
    assert result.target.options == {"opset": 20, "threads": 3}


def test_the_program_is_run_with_the_options_it_was_verified_with(plugin: Optional) -> None:
    result = quantized(plugin, threads=2)
    result.run(torch.randn(2, 4))
    assert plugin.loaded_with == [2, 2]


def test_lowering_alone_takes_options_too(plugin: Optional) -> None:
    registry = Registry({"far": plugin}, entry_points=False)
    batch = (torch.randn(2, 4),)
    lowered = qreg.lower(
        nn.Linear(4, 4), batch, backend="far", options={"opset": 20}, registry=registry
    )
    assert plugin.lowered_with == [{"opset": 20}]
    assert torch.export.load(io.BytesIO(lowered.program))


def test_a_plugin_without_options_may_leave_the_argument_out(registry: Registry) -> None:
    lowered = qreg.lower(nn.Linear(4, 4), torch.randn(2, 4), backend="toy", registry=registry)
    assert lowered.program


def test_a_report_without_a_program_checks_its_options_too(plugin: Optional) -> None:
    registry = Registry({"far": plugin}, entry_points=False)
    with pytest.raises(UnknownNameError, match="option of backend 'far': 'typo'"):
        qreg.explain(
            nn.Linear(4, 4),
            torch.randn(2, 4),
            backend="far",
            options={"typo": 1},
            registry=registry,
        )
