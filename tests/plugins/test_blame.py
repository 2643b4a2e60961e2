"""Pins that whatever a plugin's functions raise or return is attributed to the plugin."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantizer import Quantizer

import qreg
from qreg import Annotation, Annotator, Match, Registry, SupportedConfig, errors, get_quantizer
from qreg.annotators.patterns import operands
from qreg.plugins.manager import PluginWarning
from qreg.plugins.types.backend import Files
from qreg.programs.loading import read_lowered, write_program
from qreg.programs.lowering import target

RELU = "aten.relu.default"
ORIGIN = ("mine", "in-process", "")


def fail(*_: object, **__: object) -> Any:
    raise ZeroDivisionError("no luck")


def giving(answer: object) -> Callable[..., Any]:
    return lambda *_, **__: answer


class Bare(Quantizer):  # type: ignore[misc]
    """A foreign quantizer that annotates nothing."""

    def annotate(self, model: GraphModule) -> GraphModule:
        return model

    def validate(self, model: GraphModule) -> None: ...


class Failing(Bare):
    """A foreign quantizer one method of which fails."""

    def __init__(self, method: str, answer: Callable[..., Any]) -> None:
        setattr(self, method, answer)


def registry_of(toy: Any, **fields: Any) -> Registry:
    """The toy backend under the name ``mine``, with some fields changed."""
    backend = evolve(toy.BACKEND, name="mine", **fields)
    plugin = toy.Extension([backend], toy.CONFIGS, toy.ANNOTATORS, toy.lower, extends="mine")
    return Registry({"mine": plugin}, entry_points=False)


def quantized(registry: Registry) -> qreg.Result:
    x = torch.randn(2, 4)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    return qreg.quantize(model, x, backend="mine", calibration=[x], registry=registry)


CALLABLES: dict[str, Callable[[Callable[..., Any]], Mapping[str, Any]]] = {
    "refuses": lambda f: {"refuses": f},
    "transform": lambda f: {"transforms": (f,)},
    "quantizer": lambda f: {"quantizer": f},
    "transform_for_annotation": lambda f: {
        "quantizer": lambda _: Failing("transform_for_annotation", named(f))
    },
}


def named(function: Callable[..., Any]) -> Callable[..., Any]:
    function.__name__ = "transform_for_annotation"
    return function


@pytest.mark.parametrize("name", CALLABLES)
@pytest.mark.parametrize("way", ["raises", "returns a number"])
def test_a_function_of_a_backend_that_fails_names_plugin_and_function(
    name: str, way: str, toy: Any
) -> None:
    function = (lambda *_: 1 / 0) if way == "raises" else giving(3)
    registry = registry_of(toy, **CALLABLES[name](function))
    with pytest.raises(errors.PluginError, match=f"in {name}") as caught:
        quantized(registry)
    error = caught.value
    assert (error.plugin, error.distribution, error.version) == ORIGIN
    if way == "raises":
        assert isinstance(error.__cause__, ZeroDivisionError)
    else:
        assert "it returned 3 (expected" in error.problem


def test_a_transform_that_returns_nothing_is_named(toy: Any) -> None:
    def forgetful(model: GraphModule, modes: object) -> None:
        model.recompile()

    with pytest.raises(errors.PluginError, match=r"forgetful.*it returned None"):
        quantized(registry_of(toy, transforms=(forgetful,)))


@pytest.mark.parametrize(
    ("factory", "says"), [(fail, "no luck"), (giving(None), "returned None"), (giving("x"), "'x'")]
)
def test_a_config_whose_factory_fails_names_its_own_plugin(
    factory: Callable[[], Any], says: str, toy: Any
) -> None:
    config = SupportedConfig("bad", "", "static", factory)
    registry = Registry({"toy": toy, "more": toy.Extension(configs=[config])}, entry_points=False)
    with pytest.raises(errors.PluginError, match=f"factory of config 'bad'.*{says}") as caught:
        get_quantizer("toy", "bad", registry=registry)
    assert caught.value.plugin == "more"


def test_a_factory_that_fails_does_not_take_a_config_of_the_user_down(toy: Any) -> None:
    config = SupportedConfig("bad", "", "static", fail)
    registry = Registry({"toy": toy, "more": toy.Extension(configs=[config])}, entry_points=False)
    with pytest.warns(PluginWarning, match="plugin 'more'.*factory of config 'bad'"):
        quantizer = get_quantizer("toy", toy.int8_of_its_own(), registry=registry)
    assert quantizer.modes == {"static"}


@pytest.mark.parametrize("loader", [fail, giving(None), giving(b"program")])
def test_a_program_that_does_not_load_names_the_plugin(loader: Any, toy: Any) -> None:
    with pytest.raises(errors.VerificationError, match=r"in load of distribution 'in-process'"):
        quantized(registry_of(toy, load=loader))


def test_the_suspects_of_a_program_that_does_not_load_are_kept(toy: Any) -> None:
    from qreg.verification.runner import run_program

    load = target(registry_of(toy, load=fail), "mine").load
    lowered = qreg.Lowered(b"", 0, outside=["aten.neg.default"])
    assert load is not None
    with pytest.raises(errors.LoadError, match="no luck") as caught:
        run_program(load, lowered, [(torch.zeros(2),)])
    assert caught.value.suspects == ("aten.neg.default",)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def run_fails(_: bytes) -> Callable[..., Any]:
    return fail


def test_a_program_that_does_not_run_names_the_plugin_and_keeps_its_suspects(toy: Any) -> None:
    from qreg.verification.runner import run_program

    goal = target(registry_of(toy, load=run_fails), "mine")
    where = r"does not run: no luck \(in what load of distribution 'in-process' returned\)"
    with pytest.raises(errors.RunError, match=where) as caught:
        run_program(goal.loader, qreg.Lowered(b"", 0, outside=["an.op"]), [(torch.zeros(2),)])
    assert caught.value.suspects == ("an.op",)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(errors.VerificationError, match=where):
        quantized(registry_of(toy, load=run_fails))


def test_an_error_of_qreg_that_a_program_raises_goes_on_as_it_is(toy: Any) -> None:
    def refusing(_: object) -> Any:
        raise errors.InputError("input 0 has another shape")

    goal = target(registry_of(toy, load=lambda _: refusing), "mine")
    with pytest.raises(errors.InputError, match=r"^input 0 has another shape$"):
        goal.loader(b"")([])


@pytest.mark.parametrize(
    ("function", "files", "says"),
    [
        ("Files.split", Files((), fail, bytes), "it raised ZeroDivisionError"),
        ("Files.split", Files((), giving(3), bytes), "it returned 3 (expected Mapping)"),
        ("Files.split", Files((".b",), lambda p: {".toy": p}, bytes), "no bytes for .b"),
        ("Files.join", Files((), lambda p: {".toy": p}, fail), "it raised ZeroDivisionError"),
        ("Files.join", Files((), lambda p: {".toy": p}, giving("x")), "it returned 'x'"),
    ],
)
def test_files_that_a_plugin_cannot_split_or_join_name_it(
    function: str, files: Files, says: str, toy: Any, tmp_path: Path
) -> None:
    supplied = registry_of(toy, files=files).backend("mine")
    path = tmp_path / "net.toy"

    def there_and_back() -> None:
        write_program(supplied, path, b"program")
        read_lowered(supplied, path)

    with pytest.raises(errors.PluginError) as caught:
        there_and_back()
    error = caught.value
    assert (error.plugin, error.distribution, error.version, error.hook) == (*ORIGIN, function)
    assert says in error.problem
    assert path.exists() == (function == "Files.join")


@pytest.mark.parametrize(
    ("profile", "says"), [(fail, "it raised ZeroDivisionError"), (giving(None), "returned None")]
)
def test_a_profile_that_fails_is_a_note_that_names_the_plugin(
    profile: Any, says: str, toy: Any
) -> None:
    x = torch.randn(2, 4)
    report = qreg.explain(
        nn.Linear(4, 4),
        x,
        backend="mine",
        calibration=[x],
        profile=True,
        registry=registry_of(toy, profile=profile),
        progress=False,
    )
    (note,) = [each for each in report.notes if "profile" in each]
    assert says in note
    assert "distribution 'in-process'" in note


def broken_data() -> Iterator[Any]:
    yield (torch.randn(2, 4),)
    raise ZeroDivisionError("no luck")


def test_what_the_user_hands_in_is_blamed_on_no_plugin(toy: Any) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return fail(x)

    registry = registry_of(toy)
    x, given = torch.randn(2, 4), {"backend": "mine", "registry": registry, "progress": False}
    quantizer = get_quantizer("mine", registry=registry).set_filter_function(fail)
    attempts: list[Callable[[], Any]] = [
        lambda: qreg.quantize(nn.Linear(4, 4), x, calibration=broken_data(), **given),
        lambda: qreg.quantize(Broken(), x, calibration=[x], **given),
        lambda: qreg.prepare(nn.Linear(4, 4), quantizer, x),
    ]
    for attempt in attempts:
        with pytest.raises(Exception, match="no luck") as caught:
            attempt()
        assert not isinstance(caught.value, (errors.PluginError, errors.AnnotatorError))
        assert "in-process" not in str(caught.value)


def test_what_loads_programs_can_be_sent_to_another_process() -> None:
    from qreg.programs.lowering import Loader

    sent = pickle.loads(pickle.dumps(Loader(io.BytesIO, {}, "load")))
    assert sent == Loader(io.BytesIO, {}, "load")


# Annotators

SPEC = object()
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "match without operators": ({"match": lambda _: Match((), ())}, "nodes"),
    "match of a name": (
        {"match": lambda node: Match((node.name,), ())},
        "its match returned 'relu'",
    ),
    "match of a node": ({"match": lambda node: Match(node, ())}, "not iterable"),
    "input of a name": ({"match": lambda node: Match((node,), ("x",))}, "its match returned 'x'"),
    "rule of a truth value": ({"rules": [lambda *_: True]}, "its rule returned True"),
    "rule that raises": ({"rules": [fail]}, "no luck"),
    "annotation of a name": (
        {"annotate": lambda match, _: [Annotation("relu")]},
        "its annotate returned 'relu'",
    ),
    "spec of a name": (
        {"annotate": lambda match, _: [Annotation(match.output, output="int8")]},
        "its annotate returned 'int8'",
    ),
    "inputs in a list": (
        {"annotate": lambda match, _: [Annotation(match.output, [match.inputs[0]])]},
        "its annotate returned \\[.*\\]",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_an_annotator_that_fails_names_its_distribution(
    fault: str, toy: Any, capture: Callable[..., GraphModule]
) -> None:
    fields, says = BAD[fault]
    bad = evolve(Annotator("bad", [RELU], operands(0), replaces=["relu"]), **fields)
    plugins = {"toy": toy, "more": toy.Extension(annotators=[bad])}
    registry = Registry(plugins, entry_points=False, strict=True)
    graph_module = capture(nn.ReLU(), torch.zeros(2))
    with pytest.raises(errors.AnnotatorError, match=f"'bad' of distribution.*{says}"):
        get_quantizer("toy", registry=registry).annotate(graph_module)
