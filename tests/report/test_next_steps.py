"""What to do next: the steps run as they are, and bring what they say."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from quantizing import Net, X, batches, quantize

import qreg
from qreg import Registry, Report
from qreg.cli.remedies import as_options
from qreg.comparison import Entry
from qreg.report.next_steps import NextStep, next_steps, preamble
from qreg.report.values import Sizes
from qreg.tuning import Variant
from qreg.verification.latency import Timing


@pytest.fixture(scope="module")
def measured(registry: Registry) -> Report:
    options: dict[str, Any] = {"backend": "toy", "calibration": batches(), "registry": registry}
    return qreg.explain(Net(), X, sensitivity=True, **options)


def test_a_step_brings_the_decibels_that_it_says(measured: Report, registry: Registry) -> None:
    step = measured.next_steps[0]
    made = SimpleNamespace(get_quantizer=partial(qreg.get_quantizer, registry=registry))
    scope: dict[str, Any] = {"qreg": made}
    exec(f"{preamble(measured)}\n{step.code}", scope)
    after = qreg.quantize(Net(), X, quantizer=scope["quantizer"], calibration=batches())
    assert measured.verification is not None
    assert after.verification is not None
    gained = after.verification.to_float[0].sqnr - measured.verification.to_float[0].sqnr
    assert step.decibels == pytest.approx(gained, abs=1.0)
    assert step.brings == f"about {step.decibels:.1f} dB"


def test_without_measurements_the_step_is_to_measure(registry: Registry) -> None:
    (step,) = quantize(registry).report.next_steps
    assert step.code == (
        'qreg.explain(model, example_inputs, backend="toy", calibration=batches, '
        "sensitivity=True, timing=True)"
    )
    assert step.brings == "not known yet"
    assert as_options(step.code) == "qreg explain MODEL --calibration FILE --sensitivity --timing"
    decided = qreg.explain(Net(), X, backend="toy", registry=registry)
    assert [each.code.split("(")[0] for each in decided.next_steps] == ["qreg.quantize"]


def test_a_poor_program_is_improved_first_where_its_sqnr_drops(registry: Registry) -> None:
    with pytest.warns(qreg.errors.QualityWarning):
        report = quantize(registry, min_sqnr=90.0).report
    assert report.verification is not None
    drops = {f"quantizer.{each.keep}": each for each in report.verification.drops}
    steps = report.next_steps[: len(drops)]
    assert {each.code for each in steps} == set(drops)
    gains = [each.decibels or 0.0 for each in steps]
    assert gains == sorted(gains, reverse=True)
    assert 'algorithms="auto"' in report.next_steps[len(drops)].code


def with_values(report: Report, **fields: dict[str, Any]) -> Report:
    """A report with some values of its operators replaced, by their names."""
    changed = (
        evolve(
            each, **{name: found[each.name] for name, found in fields.items() if each.name in found}
        )
        for each in report.operators
    )
    return evolve(report, operators=tuple(changed))


def test_steps_for_speed_come_first_if_the_program_is_close_to_float(measured: Report) -> None:
    slow = with_values(
        measured,
        microseconds={"linear": 50.0, "add": 30.0},
        float_microseconds={"linear": 20.0, "add": 5.0},
    )
    steps = next_steps(slow)
    assert [each.microseconds for each in steps[:2]] == [30.0, 25.0]
    assert steps[0].code == 'quantizer.set_module_name("fc", None)'  # it has nothing else
    assert steps[0].brings == "at most 30 us"
    assert steps[2].decibels is not None
    little = with_values(
        slow, microseconds={"add": 23.0}, float_microseconds={"add": 20.0, "linear": 50.0}
    )
    assert not [each for each in next_steps(little) if each.microseconds]  # 3 of 73 us


def test_what_no_scope_addresses_is_no_step(measured: Report) -> None:
    inserted = with_values(measured, ordinal={"add": -1})
    assert not [each for each in next_steps(inserted) if "add" in each.why]


def test_there_is_nothing_to_do_where_all_is_known_and_good(measured: Report) -> None:
    done = with_values(measured, isolated_sqnr={"add": 60.0, "linear": 60.0, "relu": 60.0})
    done = evolve(done, timing=Timing(2.0, 1.0, 50))
    assert [each.code for each in next_steps(done)] != []  # two patterns, half of the noise each
    exact = with_values(done, isolated_sqnr=dict.fromkeys(("add", "linear", "relu"), float("inf")))
    assert next_steps(exact) == ()


def test_names_are_quoted_as_python_has_them() -> None:
    report = Report('a"b', "Net", (), Sizes(1, None))
    assert next_steps(report)[0].code.startswith(
        'qreg.quantize(model, example_inputs, backend="a\\"b"'
    )


def test_the_text_and_the_json_have_the_steps(measured: Report) -> None:
    text, plainly = str(measured), measured.as_dict()["next_steps"]
    for step, listed in zip(measured.next_steps, plainly, strict=True):
        assert step.code in text
        assert listed["code"] == step.code
    assert text.index(preamble(measured)) < text.index(measured.next_steps[0].code)


@pytest.fixture(scope="module")
def values(registry: Registry) -> dict[str, Any]:
    """One of each value that a notebook shows."""
    hostile = "<script>alert(1)</script>"
    entries = (
        Entry("float", milliseconds=2.0, bytes=9),
        Entry("toy", milliseconds=1.0, bytes=3, sqnr_to_float=40.0, verdict="good"),
        Entry(hostile, failure=hostile),
    )
    trial = qreg.Trial(Variant("toy", hostile), 0.9, True, evaluated=True)
    tuned = qreg.Tuned(hostile, 1.0, 0.8, False, "latency", (trial,), trial, 0.9)

    result = quantize(registry)
    report = evolve(result.report, model=hostile)
    comparison = qreg.Comparison(hostile, 50, 1, entries)
    return {"result": result, "report": report, "comparison": comparison, "tuned": tuned}


@pytest.mark.parametrize("name", ["result", "report", "comparison", "tuned"])
def test_a_notebook_shows_a_small_escaped_fragment(name: str, values: dict[str, Any]) -> None:
    shown = values[name]._repr_html_()
    assert shown.startswith("<div")
    assert shown.rstrip().endswith("</div>")
    assert len(shown) < 20_000
    assert "<script" not in shown
    for outside in ("http", "src=", "href=", "url(", "<style", "onload"):
        assert outside not in shown
    if name != "result":
        assert "&lt;script&gt;" in shown


def test_the_fragments_have_the_numbers(values: dict[str, Any]) -> None:
    assert "toy wins" in values["comparison"]._repr_html_()
    assert "1 ms, 2.0 times faster than float in torch" in values["comparison"]._repr_html_()
    assert "Limit met" in values["tuned"]._repr_html_()
    report = values["report"]
    assert f"{report.verification.worst_sqnr:.1f} dB at worst" in report._repr_html_()
    assert isinstance(report.next_steps[0], NextStep)
