"""Pins what a report says of the versions, the processor, the data and the recipe of a program."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import version

import torch
from quantizing import Net, batches, quantize
from torch import Tensor

import qreg
from qreg import Algorithm, Calibration, Candidate, Change, Registry, Result
from qreg.inputs.fingerprint import Hashed
from qreg.report.values import Provenance


def of(result: Result) -> Provenance:
    found = result.report.provenance
    assert found is not None
    return found


def digest(data: list[Tensor]) -> str:
    """The hash of batches of one tensor of float32, each a tuple."""
    made = hashlib.sha256()
    for each in data:
        made.update(f"list 1 {each.dtype} {tuple(each.shape)} ".encode())
        made.update(each.numpy().tobytes())
    return made.hexdigest()


def test_a_report_has_the_versions_the_data_and_the_recipe(registry: Registry) -> None:
    result = quantize(registry)
    found = of(result)
    assert found.versions["torch"] == version("torch")
    assert (found.batches, found.data_sha256) == (4, digest(batches()))
    assert found.recipe_sha256 == result.recipe.digest
    assert found.options == {}
    assert torch.backends.cpu.get_cpu_capability() in found.processor
    assert json.loads(result.report.to_json())["provenance"]["batches"] == 4
    line = next(each for each in str(result.report).splitlines() if each.startswith("made with"))
    assert f"4 calibration batches {digest(batches())[:12]}" in line
    assert f"recipe {result.recipe.digest[:12]}" in line
    assert of(quantize(registry)) == found


def test_the_batches_that_were_read_are_hashed_once(registry: Registry) -> None:
    def given() -> Iterator[Tensor]:
        yield from batches()

    assert of(quantize(registry, calibration=given(), max_batches=2)).data_sha256 == digest(
        batches()[:2]
    )

    def run(candidate: Candidate, calibration: Calibration) -> list[Change]:
        return [Change("add", in_float="for a test")]

    again = Algorithm("again", "float", "for a test", run)  # calibrates a second time
    assert of(quantize(registry, algorithms=[again])).data_sha256 == digest(batches())


def test_a_recipe_keeps_the_data_that_it_came_from(registry: Registry) -> None:
    result = quantize(registry)
    again = qreg.quantize(Net(), batches()[0], recipe=result.recipe, registry=registry)
    assert of(again) == of(result)
    dynamic = quantize(registry, config="dynamic", calibration=None)
    assert (of(dynamic).batches, of(dynamic).data_sha256) == (None, None)


def test_a_report_of_decisions_has_no_data_and_no_recipe(registry: Registry) -> None:
    report = qreg.explain(Net(), batches()[0], backend="toy", registry=registry)
    assert report.provenance is not None
    assert report.provenance.recipe_sha256 is None
    quantizer = qreg.get_quantizer("toy", registry=registry).set_filter_function(lambda _: True)
    filtered = quantize(registry, quantizer=quantizer)
    assert of(filtered).recipe_sha256 is None
    assert of(filtered).batches == 4


def test_every_difference_of_batches_is_in_the_hash() -> None:
    base = torch.arange(6.0).reshape(2, 3)
    data = [
        [(base,)],
        [(base.reshape(3, 2),)],
        [(base.double(),)],
        [(base.T,)],
        [(base, base)],
        [(base,), (base,)],
        [({"x": base},)],
        [({"y": base},)],
        [([base],)],
        [(base, None)],
        [(base, 1)],
        [(base.bfloat16(),)],
        [(torch.tensor(True),)],
    ]
    found = []
    for each in data:
        hashed = Hashed(each)
        assert list(hashed) == each
        found.append(hashed.fingerprint)
    assert len({each.sha256 for each in found}) == len(data)
    same = Hashed([(base.T.contiguous().T,)])
    list(same)
    assert same.fingerprint == found[0]
