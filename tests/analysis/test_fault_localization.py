"""Pins that an error of a program names the operator that it starts at."""

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
from qreg import Lowered, Registry
from qreg.analysis.bisection import Search, suspect
from qreg.analysis.fault_localization import name_suspect
from qreg.analysis.parts import up_to
from qreg.errors import LoweringError, VerificationError
from qreg.graph.provenance import origin
from qreg.programs.lowering import target


class Net(nn.Module):
    """Two branches, one of which reads a second input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        left = self.first(x).relu()
        return self.second(left * y).tanh() + left


EXAMPLE = (torch.randn(2, 4), torch.randn(2, 4))


def loading(toy: ModuleType, wrong: Callable[..., Any]) -> Callable[[bytes], Any]:
    """Loads programs; those that are marked give what ``wrong`` makes of their outputs."""

    def load(program: bytes) -> Any:
        if not program.startswith(b"wrong"):
            return toy.load(program)
        run = toy.load(program.removeprefix(b"wrong"))
        return lambda inputs: wrong(run(inputs))

    return load


def breaking(toy: ModuleType, operator: str, wrong: Callable[..., Any]) -> Registry:
    """A backend that lowers any program with this operator to one that goes wrong."""

    def lower(program: ExportedProgram) -> Lowered:
        lowered: Lowered = toy.lower(program)
        if any(str(node.target) == operator for node in program.graph.nodes):
            return evolve(lowered, program=b"wrong" + lowered.program)
        return lowered

    return toy.variant("breaking", lower, load=loading(toy, wrong))


def quantize(registry: Registry) -> qreg.Result:
    options: dict[str, Any] = {"registry": registry, "progress": False}
    return qreg.quantize(Net(), EXAMPLE, backend="breaking", calibration=[EXAMPLE], **options)


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        ("aten.mul.Tensor", "mul"),
        ("aten.tanh.default", "tanh"),
        ("aten.add.Tensor", "add"),
    ],
)
def test_wrong_numbers_are_traced_to_the_operator(
    operator: str, name: str, toy: ModuleType
) -> None:
    registry = breaking(toy, operator, lambda outputs: [-each for each in outputs])
    with pytest.raises(VerificationError, match="from the converted model, less than 20") as caught:
        quantize(registry)
    (named,) = caught.value.suspects
    assert named.startswith(f"{name} ({operator}")
    assert "the first that the backend computes incorrectly" in str(caught.value)


def test_a_pattern_is_suspected_as_a_whole(toy: ModuleType) -> None:
    registry = breaking(toy, "aten.relu.default", lambda outputs: [-each for each in outputs])
    with pytest.raises(VerificationError) as caught:
        quantize(registry)
    (named,) = caught.value.suspects
    assert named.startswith("linear (aten.linear.default in module 'first') and relu (aten.relu")


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (lambda outputs: [each[:1] for each in outputs], "outputs of shapes"),
        (lambda outputs: [*outputs, *outputs], "outputs of shapes"),
        (lambda outputs: [each.double() for each in outputs], "outputs of types"),
        (
            lambda outputs: [each * float("nan") for each in outputs],
            r"is NaN in places\. Suspects: ",
        ),
    ],
    ids=["another shape", "one too many", "another type", "NaN"],
)
def test_outputs_of_another_kind_are_traced_too(
    wrong: Callable[..., Any], problem: str, toy: ModuleType
) -> None:
    with pytest.raises(VerificationError, match=problem) as caught:
        quantize(breaking(toy, "aten.tanh.default", wrong))
    assert caught.value.suspects[0].startswith("tanh")


def test_the_faulty_one_of_two_branches_is_found(toy: ModuleType) -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return (x + x).tanh(), (x * 2).sigmoid() + x

    registry = breaking(toy, "aten.tanh.default", lambda outputs: [-outputs[0], *outputs[1:]])
    options: dict[str, Any] = {"registry": registry, "progress": False}
    x = EXAMPLE[0]
    with pytest.raises(VerificationError) as caught:
        qreg.quantize(Branches(), x, backend="breaking", calibration=[x], **options)
    assert caught.value.suspects[0].startswith("tanh")


def test_a_choice_between_equal_values_has_the_remedy_for_what_is_compared(
    toy: ModuleType,
) -> None:
    class Best(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores, self.boxes = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            best = self.scores(x).sigmoid().topk(2, dim=1)[1]
            return self.boxes(x).gather(1, best)

    def lower(program: ExportedProgram) -> Lowered:
        lowered: Lowered = toy.lower(program)
        called = {str(node.target) for node in program.graph.nodes}
        ties = "aten.gather.default" in called and any("quantize" in each for each in called)
        return evolve(lowered, program=b"wrong" + lowered.program) if ties else lowered

    load = loading(toy, lambda outputs: [-each for each in outputs])
    registry = toy.variant("breaking", lower, load=load)
    options: dict[str, Any] = {"registry": registry, "progress": False}
    x = EXAMPLE[0]
    with pytest.raises(VerificationError) as caught:
        qreg.quantize(Best(), x, backend="breaking", calibration=[x], **options)
    (named,) = caught.value.suspects
    assert named.startswith("gather (aten.gather.default), which reads what topk (aten.topk.def")
    assert caught.value.remedy.endswith('quantizer.set_module_name("scores", None)')


def test_an_error_is_never_its_own_cause(toy: ModuleType) -> None:
    def whole(outputs: Any) -> Any:
        return [-each for each in outputs]

    def lower(program: ExportedProgram) -> Lowered:
        lowered: Lowered = toy.lower(program)
        whole_model = any(n.name == "y" for n in program.graph.nodes)
        return evolve(lowered, program=b"wrong" + lowered.program) if whole_model else lowered

    registry = toy.variant("breaking", lower, load=loading(toy, whole))
    with pytest.raises(VerificationError) as caught:
        quantize(registry)
    assert caught.value.__cause__ is not caught.value


def test_without_verification_nothing_is_run_to_find_a_suspect(toy: ModuleType) -> None:
    def never(outputs: object) -> Any:
        raise AssertionError("it was run")

    registry = breaking(toy, "aten.tanh.default", never)
    options: dict[str, Any] = {"registry": registry, "progress": False, "verify": False}
    result = qreg.quantize(Net(), EXAMPLE, backend="breaking", calibration=[EXAMPLE], **options)
    assert result.verification is None


def test_a_program_that_does_not_run_is_traced_to_the_operator(toy: ModuleType) -> None:
    def fail(outputs: object) -> Any:
        raise RuntimeError("0x12")

    with pytest.raises(VerificationError, match=r"0x12.*Suspects: tanh") as caught:
        quantize(breaking(toy, "aten.tanh.default", fail))
    assert "the first with which the program fails" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_model_that_does_not_lower_is_traced_to_the_operator_and_its_module(
    toy: ModuleType,
) -> None:
    def lower(program: ExportedProgram) -> Lowered:
        if sum(str(node.target) == toy.LINEAR for node in program.graph.nodes) > 1:
            raise ValueError("one linear is enough")
        lowered: Lowered = toy.lower(program)
        return lowered

    with pytest.raises(LoweringError, match="one linear is enough") as caught:
        quantize(toy.variant("breaking", lower))
    (named,) = caught.value.suspects
    assert named.startswith("linear_1 (aten.linear.default in module 'second')")
    assert named.endswith("the first with which the lowering fails")
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_model_whose_every_part_works_has_no_suspect(toy: ModuleType) -> None:
    registry = Registry({"toy": toy}, entry_points=False)
    options: dict[str, Any] = {"registry": registry, "progress": False}
    result = qreg.quantize(Net(), EXAMPLE, backend="toy", calibration=[EXAMPLE], **options)
    search = Search(toy.lower, toy.load, 20)
    assert suspect(result.converted, result.decisions, [EXAMPLE], search).operators == ()


@pytest.mark.parametrize(
    ("budget", "lowered", "first", "last"),
    [
        ({"lowerings": 0}, 0, "linear", "add"),
        ({"seconds": 0.0}, 0, "linear", "add"),
        ({"lowerings": 1}, 1, "tanh", "add"),  # the part up to linear_1 works
        ({"lowerings": 2}, 2, "tanh", "tanh"),  # the part up to tanh does not
    ],
)
def test_the_search_stops_at_its_budget_and_tells_how_far_it_came(
    budget: dict[str, Any], lowered: int, first: str, last: str, toy: ModuleType
) -> None:
    registry = Registry({"toy": toy}, entry_points=False)
    options: dict[str, Any] = {"registry": registry, "progress": False}
    result = qreg.quantize(Net(), EXAMPLE, backend="toy", calibration=[EXAMPLE], **options)
    wrong = breaking(toy, "aten.tanh.default", lambda outputs: [-each for each in outputs])
    goal = target(wrong, "breaking")
    search = Search(goal.lower, wrong.backend("breaking").value.load, 20, **budget)
    error = VerificationError("it is wrong.")
    found = suspect(result.converted, result.decisions, [EXAMPLE], search)
    assert (search.lowered, found.stopped) == (lowered, lowered < 2)
    names = [origin(node) for node in found.operators]
    assert (names[0], names[-1]) == (first, last)
    search = Search(goal.lower, wrong.backend("breaking").value.load, 20, **budget)
    named = name_suspect(error, result.converted, result.decisions, [EXAMPLE], search)
    if found.stopped:
        assert f"operators from {first} to {last} (the search stopped after lowering {lowered}" in (
            str(named)
        )


def test_a_part_of_a_model_gives_what_is_read_behind_it(capture: Any) -> None:
    graph = capture(Net(), *EXAMPLE)
    node = next(each for each in graph.graph.nodes if each.name == "mul")
    part, net = up_to(graph, node), Net()
    left = net.first(EXAMPLE[0]).relu()
    got = part(*EXAMPLE)
    assert torch.equal(got[0], left)
    assert torch.equal(got[1], left * EXAMPLE[1])
    assert "second" not in dict(part.named_modules())
