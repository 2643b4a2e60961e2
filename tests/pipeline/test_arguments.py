"""Pins that the functions of the pipeline agree on their arguments, and name those they lack."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any, get_type_hints

import pytest
from click import Command

import qreg
from qreg.cli.compare import compare
from qreg.cli.explain import explain
from qreg.cli.options import JobOptions
from qreg.cli.quantize import quantize
from qreg.errors import QregError, UnknownArgumentError
from qreg.pipeline.arguments import LowerOptions, QuantizeOptions

FUNCTIONS = [qreg.quantize, qreg.explain, qreg.lower, qreg.compare, qreg.verify]
OWN = {
    "quantize": {"allow_float", "io", "work"},
    "explain": {"numerics", "sensitivity", "timing", "profile"},
    "lower": set(),
    "compare": {
        *("backends", "configs", "threads", "rounds"),
        *("keep_in_float", "on_entry"),
    },
    "verify": {"floor", "method", "run"},
}
# of compare: None is not accepted; processes that it has anyway end after an hour
STRICTER = {("compare", "calibration"), ("compare", "timeout")}


def named(function: Callable[..., Any]) -> dict[str, Parameter]:
    parameters = inspect.signature(function).parameters
    return {k: each for k, each in parameters.items() if each.kind is Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.__name__)
def test_an_argument_of_one_name_is_the_same_everywhere(function: Callable[..., Any]) -> None:
    shared, name = get_type_hints(QuantizeOptions), function.__name__
    hints, parameters = get_type_hints(function), named(function)
    assert parameters.keys() - shared.keys() == OWN[name]
    quantize = named(qreg.quantize)
    for each in (parameters.keys() & shared.keys()) - {each for f, each in STRICTER if f == name}:
        assert hints[each] == shared[each], each
        assert parameters[each].default == quantize[each].default, each


def test_quantize_and_explain_have_all_that_they_share() -> None:
    shared = QuantizeOptions.__annotations__.keys()
    assert shared <= named(qreg.quantize).keys()
    assert shared <= named(qreg.explain).keys()
    assert named(qreg.lower).keys() == LowerOptions.__annotations__.keys()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.__name__)
def test_a_signature_shows_every_argument(function: Callable[..., Any]) -> None:
    kinds = {each.kind for each in inspect.signature(function).parameters.values()}
    assert kinds == {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}
    assert function.__doc__


@pytest.mark.parametrize("command", [quantize, explain, compare])
def test_commands_spell_the_arguments_of_a_job_once(command: Command) -> None:
    accepted = {each.name for each in command.params}
    missing = JobOptions.__annotations__.keys() - accepted
    # of compare, with a process for each backend
    absent = {"backend", "config", "texts", "workers", "types", "operators", "scopes"}
    assert missing <= (absent if command is compare else set())


@pytest.mark.parametrize(
    ("function", "name", "near"),
    [
        (qreg.quantize, "calibraton", ["calibration"]),
        (qreg.explain, "numeric", ["numerics"]),
        (qreg.lower, "dynamic_shape", ["dynamic_shapes"]),
        (qreg.compare, "backend", ["backends"]),
        (qreg.verify, "min_sqrn", ["min_sqnr"]),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_an_unknown_argument_is_an_error_with_near_names(
    function: Callable[..., Any], name: str, near: list[str]
) -> None:
    message = rf"unknown argument of {function.__name__}\(\) '{name}'\. Did you mean '{near[0]}'"
    with pytest.raises(UnknownArgumentError, match=message) as caught:
        function(None, None, **{name: None})
    assert isinstance(caught.value, QregError)
    assert isinstance(caught.value, TypeError)
    assert "options=" not in str(caught.value)


def test_what_is_for_the_backend_has_its_place() -> None:
    with pytest.raises(TypeError, match=r"Pass options of the backend in options=\{'threads': "):
        qreg.quantize(None, threads=2)
