"""Results become the methods of one program, which share state; the state is a sum."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn
from torch.export import ExportedProgram
from toy import lower, variant

import qreg
from qreg import Lowered, Runner
from qreg.errors import InputError, LoweringError, VerificationError


def lowered(program: ExportedProgram | Mapping[str, ExportedProgram]) -> Lowered:
    if not isinstance(program, Mapping):
        return lower(program)
    parts = {name: lower(each) for name, each in program.items()}
    whole = pickle.dumps({name: each.program for name, each in parts.items()})
    return Lowered.of_methods({n: evolve(each, program=whole) for n, each in parts.items()})


def load_methods(program: bytes) -> dict[str, Runner]:
    """Load the programs in a program; their sums are one tensor."""
    if not program.startswith(b"\x80"):
        raise ValueError("it is not a pickle")
    modules = {
        name: torch.export.load(io.BytesIO(each)).module()
        for name, each in pickle.loads(program).items()
    }
    adding = [module for module in modules.values() if hasattr(module, "total")]
    for module in adding:
        module.total = adding[0].total

    def runner(module: Any) -> Runner:
        def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
            with torch.no_grad():
                return tuple(each.clone() for each in module(*inputs))

        return run

    return {name: runner(module) for name, module in modules.items()}


@pytest.fixture(scope="module")
def several() -> qreg.Registry:
    """A registry with a backend whose programs may have several methods."""
    return variant("several", lowered, load_methods=load_methods)


class Adding(nn.Module):
    """Adds its input to a sum that begins at 5, and returns both added."""

    def __init__(self, start: float = 5, size: int = 4) -> None:
        super().__init__()
        self.total = nn.Buffer(torch.full((size,), float(start)))
        self.linear = nn.Linear(size, size, bias=False)
        self.linear.weight = nn.Parameter(torch.eye(size))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        self.total.add_(x)
        return (self.linear(x) + self.total,)


class Scaling(Adding):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        self.total.mul_(x)
        return (self.linear(x) + self.total,)


class Reading(Adding):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.linear(x) + self.total,)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.linear(x),)


ONES = torch.ones(4)


def quantized(model: nn.Module, registry: qreg.Registry, backend: str = "several") -> qreg.Result:
    x = ONES[: model.linear.weight.shape[0]]  # type: ignore[union-attr]
    fixed = {"backend": backend, "registry": registry, "progress": False}
    return qreg.quantize(model.eval(), (x,), calibration=[(3 * x,)], **fixed)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def both(several: qreg.Registry) -> dict[str, qreg.Result]:
    models = {"add": Adding(), "scale": Scaling()}
    return qreg.combine({name: quantized(each, several) for name, each in models.items()})


def test_methods_share_the_state_that_they_write_to(both: dict[str, qreg.Result]) -> None:
    run = both["add"].target.loader.methods(both["add"].program)
    (added,) = run["add"]([ONES])
    (scaled,) = run["scale"]([ONES * 3])
    (again,) = run["add"]([ONES])
    wanted = (6 + 1, 6 * 3 + 3, 6 * 3 + 1 + 1)
    for got, value in zip((added, scaled, again), wanted, strict=True):
        torch.testing.assert_close(got, torch.full((4,), float(value)), rtol=0.02, atol=0)


def test_each_method_has_a_result_with_the_whole_program(both: dict[str, qreg.Result]) -> None:
    assert both["add"].program == both["scale"].program
    for name, result in both.items():
        assert result.verification is not None
        assert result.verification.to_converted[0].sqnr > 60
        assert result.counts["int8"]
        assert f"method '{name}' of a program with add, scale" in str(result.report)
        assert "it shares total with them" in result.notes[-1]
        (got,) = result.run(ONES)
        torch.testing.assert_close(got, result.reference(ONES)[0], rtol=0.1, atol=0)


def test_a_method_is_verified_by_name(both: dict[str, qreg.Result], several: qreg.Registry) -> None:
    program = both["scale"].program
    reference = torch.export.export(Scaling().eval(), (ONES,))
    fixed: dict[str, Any] = {"backend": "several", "registry": several}
    assert qreg.verify(program, reference, [(ONES,)], method="scale", **fixed).good
    with pytest.raises(VerificationError, match=r"no method 'half' \(expected 'add' or 'scale'\)"):
        qreg.verify(program, reference, [(ONES,)], method="half", **fixed)


def test_models_are_lowered_as_methods(several: qreg.Registry) -> None:
    models = {"add": Adding().eval(), "scale": torch.export.export(Scaling().eval(), (ONES,))}
    fixed: dict[str, Any] = {"backend": "several", "registry": several}
    found = qreg.lower(models, {"add": (ONES,)}, **fixed)
    assert list(found.methods) == ["add", "scale"]
    assert found.delegates == 2
    (got,) = load_methods(found.program)["scale"]([ONES * 3])
    assert got.tolist() == [18.0] * 4


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (Adding(start=6), "buffer 'total' has other values than in method 'one'"),
        (Adding(size=3), "buffer 'total' has another shape"),
        (Reading(), "it reads buffer 'total', which method 'one' writes to"),
    ],
)
def test_methods_that_do_not_agree_on_their_state_are_an_error(
    several: qreg.Registry, other: nn.Module, problem: str
) -> None:
    with pytest.raises(InputError, match=f"method 'other': {problem}"):
        qreg.combine({"one": quantized(Adding(), several), "other": quantized(other, several)})


def test_methods_without_common_state_share_none(several: qreg.Registry) -> None:
    models = {"add": Adding(), "plain": Plain()}
    found = qreg.combine({name: quantized(each, several) for name, each in models.items()})
    assert "it shares no buffer with them" in found["plain"].notes[-1]


def test_a_backend_whose_programs_have_one_method_is_an_error(registry: qreg.Registry) -> None:
    result = quantized(Plain(), registry, "toy")
    fixed: dict[str, Any] = {"backend": "toy", "registry": registry}
    problem = r"backend 'toy': its programs have one method \(expected no 'one'\)"
    for use in (
        lambda: qreg.combine({"one": result}),
        lambda: qreg.lower({"one": Plain()}, {"one": (ONES,)}, **fixed),
        lambda: qreg.verify(
            result.program,
            torch.export.export(Plain().eval(), (ONES,)),
            [(ONES,)],
            method="one",
            **fixed,
        ),
    ):
        with pytest.raises(InputError, match=problem):
            use()


def test_other_mistakes_are_named(
    both: dict[str, qreg.Result], several: qreg.Registry, registry: qreg.Registry, tmp_path: Any
) -> None:
    one = quantized(Plain(), several)
    for given, problem in (
        ({}, "methods: there is none"),
        ({"a b": one}, "'a b' is not the name of a method"),
        ({"one": Plain()}, r"method 'one': it is a Plain \(expected a result of qreg.quantize\)"),
        ({"one": one, "toy": quantized(Plain(), registry, "toy")}, "method 'toy': it is for back"),
    ):
        with pytest.raises(InputError, match=problem):
            qreg.combine(given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the program has several methods"):
        both["add"].save_bundle(tmp_path / "bundle")


def test_a_lowering_that_forgets_a_method_is_an_error() -> None:
    def first(programs: Any) -> Lowered:
        if not isinstance(programs, Mapping):
            return lower(programs)
        return Lowered.of_methods({"one": lower(programs["one"])})

    registry = variant("several", first, load_methods=load_methods)
    models = {"one": Plain().eval(), "two": Plain().eval()}
    with pytest.raises(LoweringError, match=r"lowered the methods \['one'\]"):
        qreg.lower(models, dict.fromkeys(models, (ONES,)), backend="several", registry=registry)
