"""Pins that inputs go to the arguments that they are named after, whatever the form of a batch."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg import Registry, Result, errors
from qreg.verification.metrics import compare_all

SCALES = (1.0, 30.0, 0.1)  # so different that inputs in the wrong order are far from float


class Named(nn.Module):
    """Three inputs, each with its own linear and its own scale; the last two by name only."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.parts = nn.ModuleList(nn.Linear(8, 8) for _ in SCALES)

    def forward(self, x: Tensor, *, mask: Tensor, bias: Tensor) -> Tensor:
        first, second, third = self.parts
        return first(x).relu() - second(mask) + third(bias)


class Positional(Named):
    def forward(self, x: Tensor, mask: Tensor, bias: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, mask=mask, bias=bias)


class Nested(Named):
    def forward(self, batch: dict[str, Tensor], *rest: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(batch["x"], mask=batch["mask"], bias=rest[0])


def data() -> list[dict[str, Tensor]]:
    torch.manual_seed(1)
    names = ("x", "mask", "bias")
    return [
        {name: scale * torch.randn(4, 8) for name, scale in zip(names, SCALES, strict=True)}
        for _ in range(4)
    ]


def by_name(batch: dict[str, Tensor]) -> Any:
    return batch


def reversed_(batch: dict[str, Tensor]) -> Any:
    return dict(reversed(batch.items()))


def mapping(batch: dict[str, Tensor]) -> Any:
    return UserDict(reversed_(batch))


def pair(batch: dict[str, Tensor]) -> Any:
    return (batch["x"],), {"bias": batch["bias"], "mask": batch["mask"]}


def lone_pair(batch: dict[str, Tensor]) -> Any:
    return [], reversed_(batch)


def arrays(batch: dict[str, Tensor]) -> Any:
    return {name: value.numpy() for name, value in reversed_(batch).items()}


FORMS = [by_name, reversed_, mapping, pair, lone_pair, arrays]
Form = Callable[[dict[str, Tensor]], Any]


def quantized(registry: Registry, model: Any, example: Any, form: Form = by_name) -> Result:
    batches = [form(batch) for batch in data()]
    return qreg.quantize(model, example, backend="toy", calibration=batches, registry=registry)


def sqnr(got: Tensor, wanted: Tensor) -> float:
    return compare_all([[got.detach()]], [[wanted.detach()]])[0].sqnr


MATCHED = [*((Named(), form) for form in FORMS), (Positional(), by_name), (Positional(), pair)]


@pytest.mark.parametrize(("model", "form"), MATCHED)
def test_inputs_are_matched_by_name(model: nn.Module, form: Form, registry: Registry) -> None:
    first, *others = data()
    result = quantized(registry, model, form(first), form)
    for batch in others:
        wanted = model(**batch)
        assert sqnr(result.run(**reversed_(batch)), wanted) > 25
        assert sqnr(result.run(reversed_(batch)), wanted) > 25
        assert sqnr(result.run(batch["x"], mask=batch["mask"], bias=batch["bias"]), wanted) > 25
    assert result.verification is not None
    assert result.verification.to_float[0].sqnr > 25


@pytest.mark.parametrize("form", [None, *FORMS])
def test_a_program_of_keywords_is_quantized(form: Form | None, registry: Registry) -> None:
    first, *others = data()
    given = {name: first[name] for name in ("bias", "x", "mask")}  # not the order of arguments
    program = torch.export.export(Positional().eval(), (), given)
    result = quantized(registry, program, form and form(first), form or reversed_)
    assert [sqnr(result.run(**b), Positional()(**b)) > 25 for b in others] == [True] * 3


def test_a_dict_may_be_an_argument_itself(registry: Registry) -> None:
    def inside(batch: dict[str, Tensor]) -> Any:
        return {"mask": batch["mask"], "x": batch["x"]}, batch["bias"]

    first, *others = data()
    example = ({"x": first["x"], "mask": first["mask"]}, first["bias"])
    result = quantized(registry, Nested(), example, inside)
    for batch in others:
        assert sqnr(result.run(*inside(batch)), Nested()(*inside(batch))) > 25


def test_a_lone_dict_may_be_the_only_argument(registry: Registry) -> None:
    class Lone(Named):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
            return super().forward(**batch)

    first, *others = data()
    result = quantized(registry, Lone(), (first,), reversed_)
    for batch in others:
        assert sqnr(result.run(reversed_(batch)), Lone()(batch)) > 25


def test_the_graphs_of_a_result_take_the_keywords_of_the_model(registry: Registry) -> None:
    first, batch, *_ = data()
    result = quantized(registry, Named(), first)
    for graph in (result.converted, result.reference):
        assert sqnr(graph(**batch), Named()(**batch)) > 25


def test_a_prepared_model_is_calibrated_and_lowered_by_name(registry: Registry) -> None:
    first, batch, *_ = data()
    quantizer = qreg.get_quantizer("toy", registry=registry)
    prepared = qreg.prepare(Named(), quantizer, pair(first))
    assert qreg.calibrate(prepared, [pair(b) for b in data()], progress=False) == 4
    prepared(**batch)
    converted = qreg.convert(prepared)
    lowered = qreg.lower(converted, pair(batch), backend="toy", registry=registry)
    program = torch.export.export(Named().eval(), (), batch)
    found = qreg.verify(lowered.program, program, data(), backend="toy", registry=registry)
    assert found.to_float[0].sqnr > 25


def test_a_float_program_of_keywords_is_lowered(registry: Registry) -> None:
    first, *others = data()
    program = torch.export.export(Named().eval(), (), reversed_(first))
    lowered = qreg.lower(program, backend="toy", registry=registry)
    found = qreg.verify(lowered.program, program, others, backend="toy", registry=registry)
    assert found.to_float[0].sqnr > 100
    assert list(program.example_inputs[1]) == ["bias", "mask", "x"]  # the program is unchanged


def test_dynamic_dimensions_are_given_by_name(registry: Registry) -> None:
    size = torch.export.Dim("batch", min=2, max=64)
    result = qreg.quantize(
        Named(),
        data()[0],
        backend="toy",
        calibration=data(),
        dynamic_shapes={name: {0: size} for name in ("x", "mask", "bias")},
        registry=registry,
    )
    assert result.run(**{k: torch.cat([v] * 3) for k, v in data()[0].items()}).shape == (12, 8)


def test_a_model_is_explained_by_names(registry: Registry) -> None:
    first, *_ = data()
    bare = qreg.explain(Named(), reversed_(first), backend="toy", registry=registry)
    full = qreg.explain(
        Named(), first, backend="toy", calibration=data(), timing=True, registry=registry
    )
    assert [each.name for each in bare.operators] == [each.name for each in full.operators]
    assert full.timing is not None


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"x": 1, "mas": 1, "bias": 1}, r"'mas' \(expected x, mask, bias\)\. Did you mean 'mask'"),
        ({"x": 1, "bias": 1}, r"mask is missing \(expected x, mask, bias for Named\.forward\)"),
        ((1,), "mask, bias are missing"),
        ((1, 2, 3), r"3 positional inputs \(expected 1 for Named.forward.*labels.*in a dict"),
        (((1,), {"x": 1, "mask": 1, "bias": 1}), r"given twice"),
    ],
)
def test_example_inputs_that_forward_does_not_take_are_named(
    example: Any, message: str, registry: Registry
) -> None:
    with pytest.raises(errors.InputError, match=f"example_inputs: .*{message}"):
        quantized(registry, Named(), example)


def test_a_dict_for_the_only_argument_is_explained(registry: Registry) -> None:
    class Lone(nn.Module):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return batch["x"] + 1

    with pytest.raises(errors.InputError, match=r"no argument 'x' \(expected batch\).*\(inputs,\)"):
        quantized(registry, Lone(), {"x": torch.zeros(2)})


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": 1, "mask": 2}, r"has the inputs x, mask \(expected x, mask, bias\)"),
        (((1,), {"mask": 2}), r"has the inputs argument 0, mask \(expected x, mask, bias\)"),
        ((torch.zeros(4, 8),) * 3, r"keywords by position \(expected a dict: x, mask, bias\)"),
    ],
)
def test_a_batch_of_other_names_is_refused(batch: Any, message: str, registry: Registry) -> None:
    first, *_ = data()
    with pytest.raises(errors.CalibrationError, match=f"calibration batch 1: .*{message}"):
        qreg.quantize(Named(), first, backend="toy", calibration=[first, batch], registry=registry)


def test_one_keyword_may_follow_in_a_tuple(registry: Registry) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor, *, mask: Tensor) -> Tensor:
            return self.linear(x) + mask

    model, batches = Masked(), [(batch["x"], batch["mask"]) for batch in data()]
    result = qreg.quantize(
        model,
        {"mask": batches[0][1], "x": batches[0][0]},
        backend="toy",
        calibration=batches,
        registry=registry,
    )
    x, mask = batches[1]
    assert sqnr(result.run(x, mask), model(x, mask=mask)) > 25


class Lenient(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, bias: Tensor | None = None, **rest: Tensor
    ) -> Tensor:
        y = self.linear(x) if mask is None else self.linear(x) * mask
        y = y if bias is None else y - 3 * bias
        return y + 9 * rest["more"] if rest else y


@pytest.mark.parametrize(
    "form",
    [
        lambda b: b["x"],
        lambda b: {"x": b["x"], "mask": None},
        lambda b: (b["x"], None),
        lambda b: {"bias": b["bias"], "x": b["x"], "mask": None},
        lambda b: (b["x"], None, b["bias"]),
        lambda b: ((b["x"], None), {"bias": b["bias"]}),
        lambda b: {"more": b["mask"], "x": b["x"]},
        lambda b: ((b["x"],), {"more": b["mask"], "mask": b["bias"]}),
    ],
)
def test_arguments_may_be_left_out_or_none(form: Form, registry: Registry) -> None:
    first, *others = [form({k: v / v.std() for k, v in batch.items()}) for batch in data()]
    result = qreg.quantize(
        Lenient(), first, backend="toy", calibration=[first, *others], registry=registry
    )
    for batch in others:
        args, named = ((), batch) if isinstance(batch, dict) else (batch, {})
        if isinstance(args, tuple) and args and isinstance(args[0], tuple):
            args, named = args
        args = args if isinstance(args, tuple) else (args,)
        assert sqnr(result.run(*args, **named), Lenient()(*args, **named)) > 25


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ({"x": 1}, r"it is a dict \(expected an iterable of batches\)\. Pass a list of it"),
        (data, r"it is a function .*Call it"),
        (3, r"it is an int .*a DataLoader"),
        ("data.pt", r"it is a str .*a DataLoader"),
    ],
)
def test_what_is_no_iterable_of_batches_is_refused(
    calibration: Any, message: str, registry: Registry
) -> None:
    with pytest.raises(errors.InputError, match=f"calibration: {message}"):
        qreg.quantize(Named(), data()[0], backend="toy", calibration=calibration, registry=registry)
    program = torch.export.export(Positional().eval(), tuple(data()[0].values()))
    with pytest.raises(errors.InputError, match=f"inputs: {message}"):
        qreg.verify(b"", program, calibration, backend="toy", registry=registry)


def test_a_dataset_of_items_by_number_is_read(registry: Registry) -> None:
    class Items(torch.utils.data.Dataset[Any]):
        def __getitem__(self, index: int) -> Any:
            return data()[index], index

    result = qreg.quantize(
        Positional(),
        data()[0],
        backend="toy",
        calibration=Items(),
        transform=lambda item: item[0],
        registry=registry,
    )
    assert result.verification is not None
    assert result.verification.samples == 4
