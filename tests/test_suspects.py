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
from qreg.errors import LoweringError, VerificationError
from qreg.origins import mark
from qreg.suspects import suspect, up_to


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


def breaking(toy: ModuleType, operator: str, wrong: Callable[..., Any]) -> Registry:
    """A backend that lowers any program with this operator to one that goes wrong."""

    def lower(program: ExportedProgram) -> Lowered:
        lowered: Lowered = toy.lower(program)
        if any(str(node.target) == operator for node in program.graph.nodes):
            return evolve(lowered, program=b"wrong" + lowered.program)
        return lowered

    def load(program: bytes) -> Any:
        if not program.startswith(b"wrong"):
            return toy.load(program)
        run = toy.load(program.removeprefix(b"wrong"))
        return lambda inputs: wrong(run(inputs))

    plugin = toy.Extension(
        backends=[evolve(toy.BACKEND, name="breaking", load=load)],
        configs=toy.CONFIGS,
        annotators=toy.ANNOTATORS,
        lowering=lower,
        extends="breaking",
    )
    return Registry({"breaking": plugin}, entry_points=False)


def quantize(registry: Registry) -> qreg.Result:
    options: dict[str, Any] = {"registry": registry, "progress": False}
    return qreg.quantize(Net(), EXAMPLE, backend="breaking", calibration=[EXAMPLE], **options)


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        ("aten.relu.default", "relu"),
        ("aten.mul.Tensor", "mul"),
        ("aten.tanh.default", "tanh"),
        ("aten.add.Tensor", "add"),
    ],
)
def test_wrong_numbers_are_traced_to_the_operator(
    operator: str, name: str, toy: ModuleType
) -> None:
    registry = breaking(toy, operator, lambda outputs: [-each for each in outputs])
    with pytest.raises(
        VerificationError, match=r"from the converted model, less than 20"
    ) as caught:
        quantize(registry)
    (named,) = caught.value.suspects
    assert named.startswith(f"{name} ({operator}")
    assert "the first that the backend gets wrong" in str(caught.value)


def test_a_program_that_does_not_run_is_traced_to_the_operator(toy: ModuleType) -> None:
    def fail(outputs: object) -> Any:
        raise RuntimeError("0x12")

    with pytest.raises(VerificationError, match=r"0x12.*Suspects: tanh") as caught:
        quantize(breaking(toy, "aten.tanh.default", fail))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_model_that_does_not_lower_is_traced_to_the_operator_and_its_module(
    toy: ModuleType,
) -> None:
    def lower(program: ExportedProgram) -> Lowered:
        if sum(str(node.target) == toy.LINEAR for node in program.graph.nodes) > 1:
            raise ValueError("one linear is enough")
        lowered: Lowered = toy.lower(program)
        return lowered

    plugin = toy.Extension(
        backends=[evolve(toy.BACKEND, name="breaking")],
        configs=toy.CONFIGS,
        annotators=toy.ANNOTATORS,
        lowering=lower,
        extends="breaking",
    )
    with pytest.raises(LoweringError, match="one linear is enough") as caught:
        quantize(Registry({"breaking": plugin}, entry_points=False))
    (named,) = caught.value.suspects
    assert named.startswith("linear_1 (aten.linear.default in module 'second')")
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_model_whose_every_part_works_has_no_suspect(capture: Any) -> None:
    graph = capture(Net(), *EXAMPLE)
    mark(graph.graph)
    found = suspect(graph, [EXAMPLE], lower=lambda _: Lowered(b"", 0), load=None, floor=20)
    assert found is None


def test_a_part_of_a_model_gives_what_the_model_has_there(capture: Any) -> None:
    graph = capture(Net(), *EXAMPLE)
    node = next(each for each in graph.graph.nodes if each.name == "mul")
    part, net = up_to(graph, node), Net()
    assert torch.equal(part(*EXAMPLE), net.first(EXAMPLE[0]).relu() * EXAMPLE[1])
    assert "second" not in dict(part.named_modules())
