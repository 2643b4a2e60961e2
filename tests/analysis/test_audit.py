"""Pins how the places of operators, defects and splits are read off a lowered program."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn
from torch.export import ExportedProgram

import qreg
from qreg import Annotator, Conversion, Decision, Lowered, LoweredOperator, Registry
from qreg.analysis.audit import Audit, Place, Placement, place, reason
from qreg.annotators.patterns import operands


def decision(node: str, status: Any = "annotated") -> Decision:
    return Decision(node, "aten.relu.default", "", status, "because")


def part(origin: str | None, *, int8: bool = True, delegate: int | None = 0) -> LoweredOperator:
    return LoweredOperator(origin, "Part", int8, delegate, ["q"], ["q"])


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ([part("a")], "int8"),
        ([part("a", int8=False)], "float"),
        ([part("a", int8=False, delegate=None)], "outside"),
        ([], "gone"),
        ([part("b"), part(None)], "gone"),
        ([part("a"), part("a", int8=False)], "float"),
        ([part("a", delegate=None)], "int8"),
        ([part("a"), part("a", int8=False), part("a", int8=False, delegate=None)], "outside"),
    ],
)
def test_the_least_int8_part_of_an_operator_says_where_it_is(
    parts: list[LoweredOperator], where: str
) -> None:
    assert place([decision("a")], parts)["a"].place == where


def test_a_place_has_the_words_of_the_backend() -> None:
    found = place([decision("a")], [LoweredOperator("a", "Conv", True, 3, ["q", "w"], ["q"])])
    assert found["a"] == Placement("a", "int8", "Conv", 3, "q, w -> q")


class Chain(nn.Module):
    """Linear, softmax, linear, and an add that reads the float input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second((self.first(x).softmax(-1) * 2).tanh()) + x


def audited(registry: Registry, model: nn.Module | None = None, config: str = "minmax") -> Audit:
    batches = [torch.randn(2, 4) for _ in range(2)]
    result = qreg.quantize(
        model or Chain(),
        batches[0],
        backend="toy",
        config=config,
        calibration=batches,
        registry=registry,
        progress=False,
    )
    assert result.audit is not None
    return result.audit


def test_a_float_part_between_int8_operators_is_listed_with_its_neighbours(
    registry: Registry,
) -> None:
    found = audited(registry)
    (split,) = found.splits
    assert split.operators == ("softmax", "mul", "tanh")
    assert (split.producers, split.consumers) == (("linear",), ("linear_1",))
    assert found.defects == ()
    assert {p.place for name, p in found.placements.items() if name in split.operators} == {"float"}


def test_float_at_the_ends_splits_nothing(registry: Registry) -> None:
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x.tanh()).tanh()

    assert audited(registry, Ends()).splits == ()


def test_dynamic_int8_takes_and_gives_float_so_nothing_splits_it(registry: Registry) -> None:
    assert audited(registry, config="dynamic").splits == ()


def lowering_of(toy: ModuleType, change: Callable[[Lowered], Lowered]) -> Registry:
    """A registry with the toy backend, whose lowered programs are changed."""

    def lower(program: ExportedProgram) -> Lowered:
        return change(toy.lower(program))

    return toy.variant("changed", lower)


def quantized(registry: Registry, backend: str) -> qreg.Result:
    x = torch.randn(2, 4)
    options: dict[str, Any] = {"registry": registry, "progress": False}
    return qreg.quantize(Chain(), x, backend=backend, calibration=[x], **options)


def test_a_decision_for_int8_that_did_not_come_true_is_a_defect(toy: ModuleType) -> None:
    def in_float(lowered: Lowered) -> Lowered:
        assert lowered.operators is not None
        operators = [evolve(o, int8=o.origin != "add" and o.int8) for o in lowered.operators]
        return evolve(lowered, operators=operators)

    result = quantized(lowering_of(toy, in_float), "changed")
    assert result.audit is not None
    assert [each.node for each in result.audit.defects] == ["add"]
    assert result.report.defects == ("add",)
    assert "DEFECTS: decided for int8, but not run in it: add." in str(result.report)


def test_a_program_that_cannot_be_read_back_has_no_audit(toy: ModuleType) -> None:
    result = quantized(lowering_of(toy, lambda low: evolve(low, operators=None)), "changed")
    assert result.audit is None
    assert {each.place for each in result.report.operators} == {None}


def test_conversions_outside_or_between_parameters_are_left_over(toy: ModuleType) -> None:
    border, outside = Conversion("quantize", 0, (), ("a",)), Conversion("dequantize", None)
    between = Conversion("requantize", 1, ("a",), ("b",))
    conversions = (border, outside, between)
    result = quantized(
        lowering_of(toy, lambda low: evolve(low, conversions=conversions)), "changed"
    )
    assert result.audit is not None
    assert result.audit.leftover == (outside, between)
    assert result.report.leftover == [outside, between]


def test_origins_survive_conversion_and_export(registry: Registry) -> None:
    names = {"linear", "softmax", "mul", "tanh", "linear_1", "add"}
    assert audited(registry).placements.keys() == names
    assert "gone" not in {each.place for each in audited(registry).placements.values()}


def test_an_annotator_of_a_third_party_is_audited_like_the_others(toy: ModuleType) -> None:
    tanh = Annotator("tanh", ["aten.tanh.default"], operands(0))
    extra = toy.Extension(annotators=[tanh])
    registry = Registry({"toy": toy, "extra": extra}, entry_points=False)
    assert audited(registry).placements["tanh"].place == "int8"


DECIDED = Decision("a", "aten.relu.default", "", "annotated", "minmax, by the global config")
LEFT = Decision("a", "aten.clone.default", "", "float", "toy has no annotator for it")


@pytest.mark.parametrize(
    ("decision", "place", "wanted"),
    [
        (DECIDED, "int8", DECIDED.reason),
        (DECIDED, "float", f"runs in float, though decided for int8: {DECIDED.reason}"),
        (DECIDED, "outside", f"runs in float, though decided for int8: {DECIDED.reason}"),
        (DECIDED, "gone", f"eliminated: {DECIDED.reason}"),
        (LEFT, "int8", f"runs in int8 (Kernel), though decided for float: {LEFT.reason}"),
        (LEFT, "float", LEFT.reason),
        (LEFT, "outside", LEFT.reason),
        (LEFT, "gone", f"eliminated: {LEFT.reason}"),
    ],
)
def test_the_reason_says_where_the_program_differs_from_the_decision(
    decision: Decision, place: Place, wanted: str
) -> None:
    assert reason(decision, Placement("a", place, "Kernel")) == wanted


def test_without_a_program_the_reason_is_that_of_the_decision() -> None:
    assert reason(LEFT, None) == LEFT.reason
