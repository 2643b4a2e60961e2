"""Pins the report: its numbers, its text, and the schema of its JSON."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from jsonschema import Draft202012Validator
from torch import Tensor, nn
from torch.fx import GraphModule

import qreg
from qreg import Registry, Report
from qreg.errors import InputError, UnknownNameError
from qreg.programs.export import export_again
from qreg.report.values import Operator, Sizes
from qreg.verification.latency import Timing

SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu().softmax(-1))


def batches() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(8, 4) for _ in range(3)]


def explained(registry: Registry, **options: Any) -> Report:
    options = {"calibration": batches(), "registry": registry, "progress": False, **options}
    return qreg.explain(Net(), batches()[0], backend="toy", **options)


@pytest.fixture(scope="module")
def report(registry: Registry) -> Report:
    return explained(registry, numerics=True, timing=True)


@pytest.fixture(scope="module")
def decided(registry: Registry) -> Report:
    return explained(registry, calibration=None)


def by_name(report: Report) -> dict[str, Operator]:
    return {each.name: each for each in report.operators}


def test_every_operator_is_there_in_the_order_of_the_graph(report: Report) -> None:
    assert list(by_name(report)) == ["linear", "relu", "softmax", "linear_1"]


def test_an_operator_knows_where_it_comes_from_and_where_it_went(report: Report) -> None:
    found = by_name(report)["linear_1"]
    assert (found.operator, found.module) == ("aten.linear.default", "head")
    assert (found.annotator, found.config, found.status) == ("linear", "minmax", "annotated")
    assert (found.inputs, found.shape, found.dtype) == (("softmax",), (8, 2), "float32")
    assert (found.place, found.lowered_as, found.delegate) == ("int8", "toy aten.linear.default", 0)
    assert found.source is not None
    assert found.source.startswith(f"{__file__}:")
    assert found.source.endswith(": return self.head(self.body(x).relu().softmax(-1))")


def test_the_first_operator_reads_the_input_of_the_model(report: Report) -> None:
    assert by_name(report)["linear"].inputs == ("x",)


def test_the_share_of_macs_in_int8_is_that_of_a_hand(report: Report) -> None:
    macs = {name: each.macs for name, each in by_name(report).items()}
    assert macs == {"linear": 8 * 4 * 8, "relu": 0, "softmax": 0, "linear_1": 8 * 8 * 2}
    assert report.int8_share == 1.0
    head = [evolve(e, place="float" if e.name == "linear_1" else e.place) for e in report.operators]
    assert evolve(report, operators=tuple(head)).int8_share == pytest.approx(256 / (256 + 128))


def test_a_model_without_macs_has_no_share() -> None:
    assert Report("toy", "Net", (), Sizes(0, None)).int8_share is None


def test_what_was_decided_and_did_not_come_true_is_not_counted_as_int8(report: Report) -> None:
    assert report.counts == {"int8": 3, "float": 1}
    lost = tuple(evolve(each, place="outside") for each in report.operators)
    assert evolve(report, operators=lost).counts == {"float": 4}


def test_the_noise_is_measured_and_the_worst_comes_first(report: Report) -> None:
    measured = [each.sqnr for each in report.worst]
    assert len(measured) == 4
    assert measured == sorted(measured)
    assert all(each.largest_difference is not None for each in report.operators)


def test_patterns_are_ordered_by_what_each_alone_costs(registry: Registry) -> None:
    report = explained(registry, sensitivity=True)
    assert [each.pattern for each in report.sensitivity if each.share] == sorted(
        {each.pattern for each in report.operators if each.pattern},
        key=lambda pattern: by_name(report)[pattern[0]].isolated_sqnr or 0.0,
    )
    assert sum(each.share for each in report.sensitivity) == pytest.approx(1)
    text = str(report)
    assert "Most sensitive patterns, each quantized alone" in text
    assert "most sensitive, by the outputs' SQNR" in text
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(json.loads(report.to_json()))
    assert len(json.loads(report.to_json())["sensitivity"]) == len(report.sensitivity)


def test_a_drop_is_what_the_outputs_gain_without_the_pattern() -> None:
    """Two patterns at 10 dB and one at 13 dB: half as much noise; a fourth adds none."""
    values = {"a": 10 + 10 * math.log10(2), "b": 10.0, "c": math.inf, "d": 10.0, "e": None}
    operators = tuple(
        Operator(name, "o", "", "annotated", "", pattern=(name,), isolated_sqnr=value)
        for name, value in values.items()
    )
    found = Report("toy", "Net", operators, Sizes(0, None)).sensitivity
    assert [each.pattern for each in found] == [("b",), ("d",), ("a",), ("c",)]
    assert [each.share for each in found] == pytest.approx([0.4, 0.4, 0.2, 0])
    drops = [10 * math.log10(2.5 / 1.5)] * 2 + [10 * math.log10(2.5 / 2), 0.0]
    assert [each.drop for each in found] == pytest.approx(drops)


def test_the_only_pattern_with_noise_causes_all_of_it() -> None:
    only = Operator("a", "o", "", "annotated", "", isolated_sqnr=20.0)
    (found,) = Report("toy", "Net", (only,), Sizes(0, None)).sensitivity
    assert (found.pattern, found.share, found.drop) == (("a",), 1.0, math.inf)


def test_operators_without_noise_come_last() -> None:
    silent = Operator("a", "o", "", "float", "", sqnr=math.inf)
    zero = evolve(silent, name="b", sqnr=0.0)
    loud = evolve(silent, name="c", sqnr=-3.0)
    found = Report("toy", "Net", (silent, zero, loud), Sizes(0, None)).worst
    assert [each.name for each in found] == ["c", "b", "a"]


def test_both_programs_are_timed_in_the_runtime(report: Report) -> None:
    assert report.timing is not None
    assert report.timing.milliseconds > 0
    assert report.timing.float_milliseconds > 0


def test_each_operator_is_timed_by_itself_where_the_backend_can(
    toy: ModuleType,
) -> None:
    """Two profiles are made: of the converted model, and of the float one."""
    seconds = [
        {"linear": 2e-6, "relu": 1e-6, "softmax": 5e-6, "linear_1": 7e-6},
        {"linear": 9e-6, "softmax": 5e-6, "linear_1": 4e-6},
    ]

    def profile(program: torch.export.ExportedProgram) -> dict[str, float]:
        int8 = any("quantize" in str(node.target) for node in program.graph.nodes)
        return seconds[0] if int8 else seconds[1]

    found = by_name(explained(toy.variant("toy", profile=profile), profile=True))
    # The relu is in the pattern of the linear before it.
    assert found["linear"].microseconds == pytest.approx(3)
    assert found["linear"].float_microseconds == pytest.approx(9)
    assert (found["relu"].microseconds, found["relu"].float_microseconds) == (None, None)
    assert found["softmax"].microseconds == pytest.approx(5)


def test_the_float_program_is_exported_once_for_all_times(
    toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[GraphModule] = []

    def noting(model: GraphModule, *given: Any) -> Any:
        exported.append(model)
        return export_again(model, *given)

    def profile(program: torch.export.ExportedProgram) -> dict[str, float]:
        for node in reversed(program.graph.nodes):  # it may do with the program what it likes
            node.meta.clear()
        return {}

    monkeypatch.setattr(importlib.import_module("qreg.pipeline.result"), "export_again", noting)
    found = explained(toy.variant("toy", profile=profile), profile=True, timing=True)
    assert len({id(each) for each in exported}) == len(exported) == 2
    assert found.timing is not None
    assert found.notes == ()


def test_operators_that_are_slower_in_int8_are_named(report: Report) -> None:
    def timed(each: Operator) -> Operator:
        times = {"linear": (3.0, 9.0), "linear_1": (7.0, 4.0), "softmax": (9.0, 1.0)}
        int8, plain = times.get(each.name, (None, None))
        return evolve(each, microseconds=int8, float_microseconds=plain)

    found = evolve(report, operators=tuple(map(timed, report.operators)))
    assert [each.name for each in found.slower] == ["linear_1"]  # the softmax is not in int8
    assert "slower in int8 than in float, by 3 us in all: linear_1" in str(found)
    assert "slower in int8" not in str(report)


def test_sizes_are_those_of_the_parameters_and_the_program(
    report: Report, registry: Registry
) -> None:
    assert report.sizes.float_parameters == 4 * (4 * 8 + 8 + 8 * 2 + 2)
    result = qreg.quantize(
        Net(), batches()[0], backend="toy", calibration=batches(), registry=registry, progress=False
    )
    assert result.report.sizes.program == len(result.program)


def test_without_calibration_the_report_has_the_decisions_alone(decided: Report) -> None:
    assert [each.status for each in decided.operators] == [
        "annotated",
        "annotated",
        "float",
        "annotated",
    ]
    assert {each.place for each in decided.operators} == {None}
    assert decided.counts == {"int8": 3, "float": 1}
    assert (decided.verification, decided.sizes.program) == (None, None)
    assert "no program was made" in str(decided)
    assert "verified" not in str(decided)


def test_a_qat_config_can_be_explained(registry: Registry) -> None:
    found = explained(registry, calibration=None, config="qat")
    assert found.configs == ["qat"]


def test_nothing_quantized_is_a_report_like_any_other(registry: Registry) -> None:
    found = explained(registry, calibration=None, config=None)
    assert found.counts == {"float": 4}
    assert "0 of 4 operators in int8, 0.0 %" in str(found)


@pytest.mark.parametrize("option", ["numerics", "sensitivity", "timing", "profile"])
def test_what_runs_the_model_needs_calibration(option: str, registry: Registry) -> None:
    with pytest.raises(InputError, match="pass calibration data"):
        explained(registry, calibration=None, **{option: True})


def test_an_unknown_backend_is_an_error(registry: Registry) -> None:
    with pytest.raises(UnknownNameError):
        qreg.explain(Net(), batches()[0], backend="toi", registry=registry, progress=False)


def test_a_program_that_was_not_run_is_not_called_verified(registry: Registry) -> None:
    text = str(explained(registry, verify=False))
    assert "not verified: the program was not run" in text


def test_the_text_has_the_summary_the_reasons_and_the_operators(report: Report) -> None:
    text = str(report)
    assert text.startswith("Net for toy: minmax\n")
    assert "3 of 4 operators in int8, 100.0 %" in text
    assert "toy has no annotator for aten.softmax.int" in text
    assert "verified: loaded in torch, ran 3 inputs" in text
    assert "Float operators that split int8 ones" in text
    assert text.index("SQNR") < text.index("linear_1  head")


def test_slower_than_float_is_said_with_the_operators_to_blame(report: Report) -> None:
    slow = str(evolve(report, timing=Timing(1.0, 1.5, 50)))
    ratio = "1.5 times slower than float"
    assert "quantized 1.500 ms (the fastest tenth of 50 rounds in turns)" in slow
    assert f"the quantized program is {ratio}; " in slow
    assert slow.count(ratio) == 1
    assert "float operators that cost conversions: softmax" in slow
    assert "2.0 times faster than float" in str(evolve(report, timing=Timing(1.0, 0.5, 50)))
    assert "as fast as float" in str(evolve(report, timing=Timing(1.0, 1.01, 50)))


@pytest.mark.parametrize(
    ("config", "milliseconds"), [("dynamic", 1.5), ("dynamic", 0.5), ("", 1.5)]
)
def test_a_static_config_is_advised_where_a_dynamic_one_is_slower(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, config: str, milliseconds: float
) -> None:
    timing = Timing(1.0, milliseconds, 50)
    monkeypatch.setattr("qreg.pipeline.result._timing", lambda *_: timing)
    found = explained(registry, timing=True, **({"config": config} if config else {}))
    advised = any("Try a static config" in note for note in found.notes)
    assert advised is (bool(config) and timing.is_slower)


def test_brackets_in_a_reason_are_text() -> None:
    odd = Operator("a", "o", "", "float", "mean over [bold] of [1]")
    assert "mean over [bold] of [1]" in str(Report("toy", "Net", (odd,), Sizes(0, None)))


@pytest.mark.parametrize("which", ["report", "decided"])
def test_the_json_follows_its_schema(which: str, request: pytest.FixtureRequest) -> None:
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(request.getfixturevalue(which).to_json()))


def test_the_schema_names_every_field_and_no_other(report: Report) -> None:
    schema = json.loads(SCHEMA.read_text())
    assert schema["properties"].keys() == report.as_dict().keys()
    assert set(schema["required"]) == report.as_dict().keys()
    operator = schema["$defs"]["operator"]["properties"]
    assert operator.keys() == report.as_dict()["operators"][0].keys()


def test_infinite_noise_ratios_are_null_in_json(report: Report) -> None:
    exact = tuple(evolve(each, sqnr=math.inf) for each in report.operators)
    text = evolve(report, operators=exact).to_json()
    assert "Infinity" not in text
    assert json.loads(text)["operators"][0]["sqnr"] is None


def test_json_is_written_in_full_or_not_at_all(report: Report, tmp_path: Path) -> None:
    report.save_json(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(report.to_json())
    with pytest.raises(InputError):
        report.save_json(tmp_path / "nowhere" / "report.json")
