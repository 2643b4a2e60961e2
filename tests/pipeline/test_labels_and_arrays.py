"""Pins batches with labels, and numpy arrays in place of tensors."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from quantizing import Net, X, batches, quantize
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import qreg
from qreg import Registry, Result, errors

LABEL = torch.ones(8, dtype=torch.int64)
Labelled = namedtuple("Labelled", ["image", "label"])


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x) * mask


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.cat(batches()), LABEL.repeat(4)), batch_size=8)


def generator() -> Iterator[Any]:
    return ((batch, LABEL) for batch in batches())


def dicts() -> list[Any]:
    return [{"image": batch, "label": LABEL} for batch in batches()]


@pytest.mark.parametrize("data", [loader, generator, dicts, lambda: iter(loader())])
def test_transform_takes_the_inputs_from_a_batch(
    data: Any, registry: Registry, result: Result
) -> None:
    found = quantize(
        registry,
        calibration=data(),
        transform=lambda batch: batch["image"] if isinstance(batch, dict) else batch[0],
    )
    assert found.verification == result.verification


def test_transform_is_called_for_the_batches_that_are_read(registry: Registry) -> None:
    calls: list[Any] = []

    def counted(batch: Any) -> Any:
        calls.append(batch)
        return batch[0]

    quantize(registry, calibration=generator(), transform=counted, max_batches=2)
    assert len(calls) == 2


def test_every_function_that_reads_batches_transforms_them(registry: Registry) -> None:
    def first(batch: Any) -> Any:
        return batch[0]

    options: dict[str, Any] = {"backend": "toy", "registry": registry}
    report = qreg.explain(Net(), X, calibration=generator(), transform=first, **options)
    assert report.verification is not None
    prepared = qreg.prepare(Net(), qreg.get_quantizer("toy", registry=registry), X)
    assert qreg.calibrate(prepared, generator(), transform=first, progress=False) == 4
    program = torch.export.export(Net().eval(), (X,))
    lowered = qreg.lower(program, **options)
    found = qreg.verify(lowered.program, program, generator(), transform=first, **options)
    assert found.samples == 4


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda batch: None, r"transform: it returned None for batch 0 .*Return them"),
        ("image", r"transform: 'image' is not a function .*lambda batch: batch\[0\]"),
    ],
)
def test_a_transform_that_returns_nothing_is_refused(
    transform: Any, message: str, registry: Registry
) -> None:
    model = Net()
    with pytest.raises(errors.InputError, match=message):
        quantize(registry, model, calibration=generator(), transform=transform)


@pytest.mark.parametrize(
    ("batch", "rest", "keep"),
    [
        ((X, LABEL), "item 1", "batch[0]"),
        ([X, LABEL], "item 1", "batch[0]"),
        (Labelled(X, LABEL), "item 1", "batch[0]"),
        ((X, 3), "item 1", "batch[0]"),
        ((X, LABEL, "name"), "items 1 to 2", "batch[0]"),
        (((X,), LABEL), "item 1", "batch[0]"),
        (({"x": X}, LABEL), "item 1", "batch[0]"),
        ((X, {"boxes": X, "labels": LABEL}), "item 1", "batch[0]"),
        ({"x": X, "label": LABEL}, "label", '{"x": batch["x"]}'),
        ({"image": X, "label": LABEL}, "label", 'batch["image"]'),
        ({"label": LABEL, 0: X}, "label", "batch[0]"),
    ],
    ids=str,
)
def test_labels_are_named_with_the_transform_that_removes_them(
    batch: Any, rest: str, keep: str, registry: Registry
) -> None:
    with pytest.raises(errors.CalibrationError) as caught:
        quantize(registry, calibration=[X, batch])
    message = str(caught.value)
    assert message.startswith("calibration batch 1: has ")
    assert f"(expected {'x' if isinstance(batch, dict) else '1: x'})" in message
    assert message.endswith(
        f"Remove {rest}, which the model was not exported with, such as labels: pass "
        f"transform=lambda batch: {keep}."
    )
    advised = eval(f"lambda batch: {keep}")
    assert quantize(registry, calibration=[batch], transform=advised).verification is not None


@pytest.mark.parametrize(
    ("batch", "keep"),
    [
        ((X, X, LABEL), "batch[:2]"),
        (((X, X), LABEL), "batch[0]"),
        (({"x": X, "mask": X}, LABEL), "batch[0]"),
        (
            {"mask": X, "label": LABEL, "x": X},
            '{name: batch[name] for name in ("x", "mask")}',
        ),
        ({"label": LABEL, "inputs": {"mask": X, "x": X}}, 'batch["inputs"]'),
    ],
    ids=str,
)
def test_labels_beside_several_inputs_are_named(batch: Any, keep: str, registry: Registry) -> None:
    with pytest.raises(errors.CalibrationError) as caught:
        quantize(registry, Pair(), (X, X), calibration=[batch])
    assert str(caught.value).endswith(f"pass transform=lambda batch: {keep}.")
    advised = eval(f"lambda batch: {keep}")
    found = quantize(registry, Pair(), (X, X), calibration=[batch], transform=advised)
    assert found.verification is not None


def test_labels_that_no_transform_removes_are_still_named(registry: Registry) -> None:
    with pytest.raises(errors.CalibrationError, match=r"has 3 inputs .*Remove values.*labels\.$"):
        quantize(registry, calibration=[(LABEL, LABEL, LABEL)])


def test_labels_are_named_in_examples_and_runs(registry: Registry, result: Result) -> None:
    program = torch.export.export(Net().eval(), (X,))
    with pytest.raises(errors.InputError, match=r"example_inputs: has 2 .* such as labels\.$"):
        quantize(registry, program, (X, LABEL))
    with pytest.raises(errors.InputError, match=r"example_inputs: 2 positional inputs.*labels"):
        quantize(registry, example=(X, LABEL))
    with pytest.raises(errors.InputError, match=r"run\(\): has 2 inputs .* such as labels\.$"):
        result.run(X, LABEL)


# Arrays


def arrays() -> list[Any]:
    return [batch.numpy() for batch in batches()]


@pytest.mark.parametrize(
    "form",
    [
        lambda array: array,
        lambda array: (array,),
        lambda array: {"x": array},
        lambda array: np.asfortranarray(array),
        lambda array: np.flip(np.ascontiguousarray(np.flip(array, 1)), 1),
        lambda array: array.astype(array.dtype.newbyteorder()),
    ],
    ids=["lone", "tuple", "dict", "fortran", "negative strides", "byte order"],
)
def test_arrays_are_tensors(form: Any, registry: Registry, result: Result) -> None:
    given = [form(array) for array in arrays()]
    found = quantize(registry, example=given[0], calibration=given)
    assert found.verification == result.verification
    wanted = result.run(batches()[0])
    run = found.run(**given[0]) if isinstance(given[0], dict) else found.run(given[0])
    torch.testing.assert_close(run, wanted, rtol=0, atol=0)


def test_arrays_that_cannot_be_written_are_copied(registry: Registry) -> None:
    array = np.zeros((8, 4), dtype=np.float32)
    array.setflags(write=False)
    assert quantize(registry, example=array, calibration=[array + 1]).run(array).shape == (8, 4)


def test_an_array_that_is_filled_again_is_not_the_sample_of_another_batch(
    registry: Registry,
) -> None:
    def refilled() -> Iterator[Any]:
        array = np.zeros((8, 4), dtype=np.float32)
        for batch in batches():
            array[:] = batch.numpy()
            yield array

    samples = quantize(registry, calibration=refilled()).samples
    assert all(torch.equal(x, batch) for (x,), batch in zip(samples, batches(), strict=True))


def test_integer_arrays_keep_their_dtype(registry: Registry) -> None:
    class Looked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.linear = nn.Embedding(9, 4), nn.Linear(4, 4)

        def forward(self, ids: Tensor) -> Tensor:
            return self.linear(self.table(ids))

    model, ids = Looked(), np.arange(6).reshape(2, 3)
    result = quantize(registry, model, ids, calibration=[ids, ids + 3])
    wanted = model(torch.from_numpy(ids))
    torch.testing.assert_close(result.run(ids), wanted, rtol=0, atol=0.1)


def test_verification_takes_arrays(registry: Registry) -> None:
    program = torch.export.export(Net().eval(), (X,))
    options: dict[str, Any] = {"backend": "toy", "registry": registry}
    lowered = qreg.lower(Net(), np.zeros((8, 4), np.float32), **options)
    assert qreg.verify(lowered.program, program, arrays(), **options).samples == 4


def test_float64_arrays_are_refused_with_the_cast(registry: Registry, result: Result) -> None:
    wide = np.zeros((8, 4))
    with pytest.raises(errors.InputError, match=r'float64 \(expected float32.*astype\("float32"\)'):
        quantize(registry, example=wide)
    with pytest.raises(errors.CalibrationError, match=r'batch 0: .*float64.*astype\("float32"\)'):
        quantize(registry, calibration=[wide])
    with pytest.raises(errors.InputError, match=r'run\(\): .*float64.*astype\("float32"\)'):
        result.run(wide)


def test_float64_arrays_are_for_models_of_that_dtype(registry: Registry) -> None:
    given = [batch.double().numpy() for batch in batches()]
    result = quantize(
        registry, Net().double(), given[0], calibration=given, allow_float=True, config=None
    )
    wanted = Net().double()(torch.from_numpy(given[0]))
    torch.testing.assert_close(result.run(given[0]), wanted)


def test_an_array_of_objects_is_refused(registry: Registry) -> None:
    with pytest.raises(errors.CalibrationError, match="is an array of dtype <U1"):
        quantize(registry, calibration=[np.array(["a", "b"])])
