"""Pins what a program far from float is answered: the verdict, the warning, and the way out."""

from __future__ import annotations

import json
import math
import re
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg import Registry, get_quantizer
from qreg.errors import InputError, QualityWarning
from qreg.report.report import Report
from qreg.report.text import POOR

SCALES = torch.tensor([1e-3, 1.0, 1e3, 30.0])


class Tabular(nn.Module):
    """Layers that normalise raw features in the first of them, as after folding a scaler."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 16), nn.Linear(16, 3)
        self.first.weight.data /= SCALES

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


def raw(seed: int = 1) -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(SCALES * torch.randn(8, 4, generator=generator),) for _ in range(4)]


def options(registry: Registry, **more: Any) -> dict[str, Any]:
    return {"calibration": raw(), "registry": registry, "progress": False, **more}


def quantized(registry: Registry, model: nn.Module | None = None, **more: Any) -> qreg.Result:
    more = options(registry, backend="toy", **more)
    return qreg.quantize((model or Tabular()).eval(), more["calibration"][0], **more)


def to_float(result: qreg.Result, model: nn.Module) -> float:
    """The SQNR of a program in dB, computed from what it gives."""
    pairs = [(model(*sample), result.run(*sample)) for sample in raw()]
    signal = sum(float(wanted.square().sum()) for wanted, _ in pairs)
    noise = sum(float((wanted - got).square().sum()) for wanted, got in pairs)
    return 10 * math.log10(signal / noise)


@pytest.fixture(scope="module")
def poor(registry: Registry) -> qreg.Result:
    with pytest.warns(QualityWarning):
        return quantized(registry)


@pytest.mark.parametrize("config", ["minmax", "dynamic"])
def test_a_program_far_from_float_is_returned_with_a_warning(
    config: str, registry: Registry
) -> None:
    """It is as its converted model is: that alone does not make it right."""
    with pytest.warns(QualityWarning) as caught:
        result = quantized(registry, config=config)
    found = result.verification
    assert found is not None
    assert found.to_converted[0].sqnr > 60
    assert found.verdict == "poor"
    assert found.to_float[0].sqnr == pytest.approx(to_float(result, Tabular()), abs=0.01)
    (warning,) = caught
    assert warning.filename == __file__
    assert warning.message.verification is found
    assert f"output 0 of the program is {found.to_float[0].sqnr:.1f} dB" in str(warning.message)
    assert "expected at least 10 dB" in str(warning.message)


def test_the_warning_names_the_operator_that_adds_the_noise_and_the_line_that_heals_it(
    poor: qreg.Result, registry: Registry
) -> None:
    with pytest.warns(
        QualityWarning, match=r"The SQNR drops most at linear \(aten.linear.default"
    ) as caught:
        quantized(registry)
    message = str(caught[0].message)
    assert "in module 'first'" in message
    quantizer = get_quantizer("toy", registry=registry)
    line = re.search(r"quantizer\.set_.*$", message)
    assert line is not None
    eval(line[0], {"quantizer": quantizer})
    with warnings.catch_warnings():
        warnings.simplefilter("error", QualityWarning)
        healed = qreg.quantize(Tabular().eval(), raw()[0], quantizer=quantizer, **options(registry))
    assert healed.verification.to_float[0].sqnr > 25
    assert healed.decided["annotated"] > 0


def test_an_operator_that_only_inherits_noise_is_not_named(poor: qreg.Result) -> None:
    (drop,) = poor.verification.drops
    assert (drop.node, drop.before > 30, drop.after < 10) == ("linear", True, True)


def test_a_warning_may_be_made_an_error(registry: Registry) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", QualityWarning)
        with pytest.raises(QualityWarning, match="from the float model"):
            quantized(registry)


@pytest.mark.parametrize("least", [-100.0, -math.inf])
def test_no_verdict_is_bought_with_a_negative_ratio(least: float, registry: Registry) -> None:
    with pytest.raises(InputError, match=r"^min_sqnr: .* \(expected decibels, such as 10.0\)"):
        quantized(registry, min_sqnr=least)


def test_a_good_program_is_below_a_ratio_that_no_int8_program_reaches(registry: Registry) -> None:
    batches = [(torch.randn(8, 4, generator=torch.Generator().manual_seed(2)),)]
    fair = nn.Linear(4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error", QualityWarning)
        assert quantized(registry, fair, calibration=batches).verification.good
    with pytest.warns(QualityWarning, match="expected at least 90 dB"):
        assert not quantized(registry, fair, calibration=batches, min_sqnr=90).verification.good


@pytest.mark.parametrize("least", [math.nan, "10", None])
def test_what_is_no_number_of_decibels_is_refused_before_any_work(
    least: Any, registry: Registry
) -> None:
    with pytest.raises(InputError, match=r"min_sqnr.*is not a number"):
        quantized(registry, min_sqnr=least)


def test_what_quantize_gives_verify_takes_with_the_same_verdict(
    poor: qreg.Result, registry: Registry
) -> None:
    reference = torch.export.export(Tabular().eval(), raw()[0])
    with pytest.warns(QualityWarning, match="from the reference"):
        found = qreg.verify(poor.program, reference, raw(), backend="toy", registry=registry)
    assert found.verdict == poor.verification.verdict
    assert found.to_float == poor.verification.to_float
    converted = torch.export.export(poor.converted, raw()[0])
    assert qreg.verify(poor.program, converted, raw(), backend="toy", registry=registry).good


def test_the_report_begins_with_the_verdict(poor: qreg.Result) -> None:
    first, *rest = str(poor.report).splitlines()
    sqnr = poor.verification.to_float[0].sqnr
    assert first.startswith(f"{POOR}: output 0 of the program is {sqnr:.1f} dB")
    assert 'quantizer.set_module_name("first", None)' in first
    assert "verified" not in "\n".join(rest)


def test_a_good_report_gives_the_worst_ratio(registry: Registry) -> None:
    batches = [(torch.randn(8, 4, generator=torch.Generator().manual_seed(2)),)]
    result = quantized(registry, nn.Linear(4, 4), calibration=batches)
    worst = result.verification.worst_sqnr
    assert f"ran 1 input, {worst:.1f} dB to float at worst" in str(result.report)
    assert POOR not in str(result.report)


def test_explain_warns_too(registry: Registry) -> None:
    with pytest.warns(QualityWarning):
        report = qreg.explain(Tabular().eval(), raw()[0], backend="toy", **options(registry))
    assert isinstance(report, Report)
    assert report.verification.verdict == "poor"


def test_the_json_has_the_verdict_the_slices_and_the_drops(poor: qreg.Result) -> None:
    found = json.loads(poor.report.to_json())["verification"]
    assert (found["verdict"], found["min_sqnr"]) == ("poor", 10.0)
    assert set(found["to_float"][0]["worst_slice"]) == {"axis", "index", "sqnr"}
    assert found["drops"][0]["node"] == "linear"
    assert found["drops"][0]["keep"] == 'set_module_name("first", None)'


def test_the_page_shows_the_verdict(poor: qreg.Result) -> None:
    from qreg.report.page import render

    page = render(poor.report)
    assert "The program is far from the float model" in page
    assert "below 10 dB" in page


class Parts(nn.Module):
    """Two parts on one scale, from layers that are each quantized well."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.boxes, self.scores = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        whole = nn.functional.pad(self.boxes(x) * 300, (0, 2))
        return whole + nn.functional.pad(self.scores(x).sigmoid(), (4, 0))


def test_a_lost_part_is_traced_to_the_operator_that_joins_it(registry: Registry) -> None:
    generator = torch.Generator().manual_seed(2)
    batches = [(torch.randn(8, 4, generator=generator),) for _ in range(4)]
    with pytest.warns(QualityWarning, match="along axis 1") as caught:
        result = quantized(registry, Parts(), calibration=batches)
    found = result.verification
    assert found.to_float[0].sqnr > 30
    assert found.to_float[0].worst_slice.index in (4, 5)
    assert found.drops[0].node == "add"
    assert "The SQNR of the worst slice drops most at add" in str(caught[0].message)
    assert 'quantizer.set_operator_type("aten.add.Tensor", None)' in str(caught[0].message)


class Best(nn.Module):
    """The values at the places of the best scores, which are almost equal."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scores, self.boxes = nn.Linear(4, 32), nn.Linear(4, 32)
        self.scores.weight.data = self.scores.weight[:1] + 1e-4 * torch.randn(32, 4)
        self.scores.bias.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.boxes(x).gather(1, self.scores(x).topk(4, dim=1)[1])


def test_noise_of_other_places_is_traced_to_what_chooses_them(registry: Registry) -> None:
    batches = [(torch.randn(8, 4, generator=torch.Generator().manual_seed(3)),)]
    with pytest.warns(QualityWarning, match=r'set_module_name\("scores", None\)'):
        result = quantized(registry, Best(), calibration=batches)
    assert [drop.module for drop in result.verification.drops] == ["scores"]
    quantizer = get_quantizer("toy", registry=registry).set_module_name("scores", None)
    healed = qreg.quantize(
        Best().eval(), batches[0], quantizer=quantizer, **options(registry, calibration=batches)
    )
    assert healed.verification.to_float[0].sqnr > 25
