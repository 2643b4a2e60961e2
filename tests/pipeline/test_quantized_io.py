"""Programs that take and give integers: what they compute, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import variant

import qreg
from qreg.errors import ConfigError, InputError, RecipeError, UnknownNameError
from qreg.graph.boundary import QUANTIZE
from qreg.graph.nodes import called
from qreg.inputs.program_signature import TensorInfo
from qreg.inputs.quantized_io import boundary_of
from qreg.pipeline.result import report_of

DATA = [(torch.linspace(-2, 3, 20).reshape(5, 4) * n,) for n in (1, 0.5)]


class Both(nn.Module):
    """Two inputs, of which one is not a floating-point tensor, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor, row: Tensor) -> dict[str, Tensor]:
        hidden = torch.relu(self.first(x))
        return {"hidden": hidden, "scores": self.second(hidden), "row": row + 1}


BATCHES = [(*each, torch.tensor([3])) for each in DATA]


def made(registry: Any, model: nn.Module, data: Any = DATA, **given: Any) -> Any:
    given = {"calibration": data, **given}
    return qreg.quantize(model, data[0], backend="toy", registry=registry, progress=False, **given)


@pytest.fixture(scope="module")
def model() -> Both:
    torch.manual_seed(0)
    return Both()


@pytest.fixture(scope="module")
def in_float(registry: Any, model: Both) -> Any:
    return made(registry, model, BATCHES)


def by_hand(info: TensorInfo, integers: Tensor) -> Tensor:
    assert info.qparams is not None
    assert str(integers.dtype) == f"torch.{info.dtype}"
    return (integers.float() - info.qparams.zero_point) * torch.tensor(info.qparams.scale)


def test_integers_give_what_their_values_give_in_float(
    registry: Any, model: Both, in_float: Any
) -> None:
    result = made(registry, model, BATCHES, io="int8")
    x, row = result.signature.inputs
    assert (x.dtype, row.dtype, row.qparams) == ("int8", "int64", None)
    integers = torch.arange(-128, 128).to(torch.int8)[:248].reshape(62, 4)[:5]
    got = result.run(integers, torch.tensor([3]))
    wanted = in_float.run(by_hand(x, integers), torch.tensor([3]))
    hidden, scores, _ = result.signature.outputs
    assert torch.equal(by_hand(hidden, got["hidden"]), wanted["hidden"])
    assert torch.equal(by_hand(scores, got["scores"]), wanted["scores"])
    assert got["row"].tolist() == [4]


def test_verification_and_audit_are_those_of_the_float_program(
    registry: Any, model: Both, in_float: Any
) -> None:
    result = made(registry, model, BATCHES, io="int8")
    assert result.verification == in_float.verification
    assert result.counts == in_float.counts
    assert result.report.verification.good


def test_some_tensors_alone_are_integers(registry: Any, model: Both) -> None:
    result = made(registry, model, BATCHES, io={"scores": "int8", "x": "float"})
    kinds = [each.dtype for each in (*result.signature.inputs, *result.signature.outputs)]
    assert kinds == ["float32", "int64", "float32", "int8", "int64"]
    outputs = result.run(*BATCHES[0])
    assert [outputs[name].dtype for name in ("hidden", "scores")] == [torch.float32, torch.int8]


def test_float_inputs_are_refused_by_run(registry: Any, model: Both) -> None:
    with pytest.raises(InputError, match=r"float32 \(expected torch\.int8.*quantized\("):
        made(registry, model, BATCHES, io={"x": "int8"}).run(*BATCHES[0])


def test_recipes_have_what_was_asked_for(registry: Any, model: Both, tmp_path: Path) -> None:
    result = made(registry, model, BATCHES, io={"x": "int8"})
    result.recipe.save(tmp_path / "r.toml")
    recipe = qreg.Recipe.load(tmp_path / "r.toml")
    again = qreg.quantize(model, BATCHES[0], recipe=recipe, registry=registry, progress=False)
    assert (recipe.io, again.signature) == ({"x": "int8"}, result.signature)
    with pytest.raises(ConfigError, match=r"io: a recipe has its own"):
        qreg.quantize(model, BATCHES[0], recipe=recipe, registry=registry, io="int8")


def test_recipes_with_another_type_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("backend = 'toy'\nio = {x = 3}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="io"):
        qreg.Recipe.load(path)


def test_times_are_measured_with_the_inputs_of_the_model(registry: Any, model: Both) -> None:
    report = report_of(made(registry, model, BATCHES, io="int8"), timing=True)
    assert report.timing.milliseconds > 0


class Doubled(nn.Module):
    """Reads its input in float, and in a linear."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.sin(x), self.linear(x), x


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"io": "int4"}, InputError, r"io: 'int4' is not a kind of tensors \(expected 'int8'"),
        ({"io": {"x": "int8", "z": "int8"}}, UnknownNameError, "input or output in io 'z'"),
        ({"io": "int8"}, InputError, r"input 'x' is read in float by sin \(aten\.sin\.default\)"),
        ({"io": {"0": "int8"}}, InputError, r"output '0' is computed in float by sin .*Omit io"),
        (
            {"io": "int8"},
            InputError,
            r"\. '0', '2' cannot be integers either\. Pass io={'1': 'int8'}\.$",
        ),
        ({"io": {"2": "int8"}}, InputError, "output '2' is computed as it is, by no operator"),
        ({"io": "int8", "config": "dynamic"}, ConfigError, "io: the config is dynamic"),
    ],
)
def test_requests_that_cannot_be_met_are_errors(
    registry: Any, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        made(registry, Doubled(), **given)


def test_what_cannot_be_an_integer_is_an_error_ahead_of_the_calibration(registry: Any) -> None:
    def untouched() -> Iterator[tuple[Tensor, ...]]:
        pytest.fail("the calibration data were read")
        yield from DATA

    for io, message in (({"z": "int8"}, "or output in io 'z'"), ("int8", "'x' is read in float")):
        with pytest.raises((UnknownNameError, InputError), match=message):
            made(registry, Doubled(), calibration=untouched(), io=io)


def test_readers_with_different_scales_are_an_error(registry: Any) -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) + self.other(x)

    found = made(registry, Apart())
    reader = next(node for node in found.converted.graph.nodes if called(node) == QUANTIZE)
    (x,) = reader.all_input_nodes
    if len(x.users) == 1:  # equal quantizations may have been merged
        with found.converted.graph.inserting_after(reader):
            found.converted.graph.call_function(reader.target, reader.args)
    reader.update_arg(1, 0.5)
    with pytest.raises(
        InputError, match=r"readers of input 'x' quantize it differently.*scale 0.5"
    ):
        boundary_of("int8", found.reference, found.converted, found.decisions)


def test_backends_take_float_tensors_unless_they_say_otherwise() -> None:
    registry = variant("toy", quantized_io=False)
    with pytest.raises(ConfigError, match="backend 'toy' take and give float tensors only"):
        made(registry, nn.Linear(4, 4), io="int8")
