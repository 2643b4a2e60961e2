"""The trap: a residual that a fused kernel adds to in place. Each program is run several times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import qreg
import qreg_x86_inductor

ROWS, IMAGES = (6, 32), (2, 8, 6, 6)


class Layer(nn.Module):
    """A linear or a convolution that keeps the shape, with whatever else a case needs."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.shape = ROWS if kind == "linear" else IMAGES
        self.layer, self.second = (
            nn.Linear(32, 32) if kind == "linear" else nn.Conv2d(8, 8, 3, padding=1)
            for _ in range(2)
        )


class Input(Layer):
    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.layer(x) + residual


class WithRelu(Layer):
    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return functional.relu(residual + self.layer(x))


class Parameter(Layer):
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.residual = nn.Parameter(torch.randn(self.shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.residual


class Buffer(Layer):
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.register_buffer("residual", torch.randn(self.shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.residual


class FoldedConstant(Buffer):
    """What freezing computes ahead is a constant too."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.residual.exp()


class Viewed(Layer):
    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.layer(x) + residual.view(-1).view(self.shape)


class Sliced(Layer):
    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.layer(x) + torch.cat([residual, residual])[: self.shape[0]]


class SlicedInput(Layer):
    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return (
            self.layer(x[:2]) + residual[1:3] if len(self.shape) == 2 else self.layer(x) + residual
        )


class Transposed(Layer):
    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.layer(x) + residual.transpose(0, 1).contiguous().transpose(0, 1)


class Permuted(Layer):
    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.layer(x) + residual.flip(0).flip(0).transpose(-1, -2).transpose(-1, -2)


class UsedAgain(Layer):
    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x) + residual, residual * 2


class UsedBefore(Layer):
    """The view is read upstream of the layer, and returned downstream of it."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        residual = self.second(x)
        view = residual.view(-1)
        return self.layer(view.view(self.shape)) + residual, view


class GivenOut(Layer):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        residual = self.second(x).sigmoid()
        return self.layer(x) + residual, residual


class OfItself(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x


class Chained(Layer):
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.layer(x.sigmoid())
        return x + self.second(x.tanh())


class OfAKernel(Layer):
    """The residual is the result of a kernel that nobody else reads: no copy is needed."""

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.layer(x) + self.second(other)


CASES = [
    *(Input, WithRelu, Parameter, Buffer, FoldedConstant, Viewed, Sliced, SlicedInput),
    *(Transposed, Permuted, UsedAgain, UsedBefore, GivenOut, OfItself, Chained, OfAKernel),
]
TAKES_TWO = (
    *(Input, WithRelu, Viewed, Sliced, SlicedInput, Transposed, Permuted, UsedAgain, OfAKernel),
)


def shapes(module: Layer) -> list[tuple[int, ...]]:
    return [module.shape] * (2 if isinstance(module, TAKES_TWO) else 1)


class Both(nn.Module):
    """A case for a linear and for a convolution, each with inputs of its own."""

    def __init__(self, case: type[Layer]) -> None:
        super().__init__()
        self.linear, self.conv = case("linear"), case("conv")
        self.shapes = [*shapes(self.linear), *shapes(self.conv)]

    def forward(self, *inputs: Tensor) -> tuple[Any, Any]:
        half = len(inputs) // 2
        return self.linear(*inputs[:half]), self.conv(*inputs[half:])


@pytest.mark.parametrize("case", CASES)
def test_compiled_in_process_it_changes_nothing_that_is_not_its_own(
    case: type[Layer], converted: Callable[..., Any], stays_right: Callable[..., None]
) -> None:
    torch.compiler.reset()
    module = Both(case)
    model = converted(module, *module.shapes)
    inputs = [torch.randn(shape) for shape in module.shapes]
    stays_right(qreg_x86_inductor.compile(model), model, inputs)


class Everything(nn.Module):
    """As many of the cases as one program holds, for linears and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.cases = nn.ModuleList(
            case(kind)
            for kind in ("linear", "conv")
            for case in (Input, Parameter, Buffer, FoldedConstant, Viewed, UsedAgain, UsedBefore)
        )

    def forward(self, x: Tensor, residual: Tensor, image: Tensor, other: Tensor) -> list[Tensor]:
        outputs = []
        for case in self.cases:
            given = (x, residual) if case.shape == ROWS else (image, other)
            outputs.append(case(*given[: len(shapes(case))]))
        return outputs


@pytest.mark.slow
def test_a_package_changes_nothing_that_is_not_its_own(
    quantized: Callable[..., qreg.Result], stays_right: Callable[..., None]
) -> None:
    result = quantized(Everything(), ROWS, ROWS, IMAGES, IMAGES)
    run = qreg.plugins.registry.installed().backend("x86_inductor").value.load(result.program)
    inputs = [torch.randn(shape) for shape in (ROWS, ROWS, IMAGES, IMAGES)]
    stays_right(lambda *given: run(given), result.converted, inputs)


@pytest.mark.slow
def test_a_package_is_as_safe_in_the_hands_of_torch_alone(
    quantized: Callable[..., qreg.Result], stays_right: Callable[..., None], tmp_path: Any
) -> None:
    """The copies are in the program, and not only in what runs it here."""
    result = quantized(Input("linear"), ROWS, ROWS)
    result.save(tmp_path / "program.pt2")
    run = torch._inductor.aoti_load_package(str(tmp_path / "program.pt2"))
    stays_right(run, result.converted, [torch.randn(ROWS), torch.randn(ROWS)])


def test_float_convolutions_are_kept_from_it_too(
    converted: Callable[..., Any], stays_right: Callable[..., None]
) -> None:
    """Float layers have another defect: torch 2.13 returns a wrong second output here."""
    torch.compiler.reset()
    module = UsedBefore("conv").eval()
    stays_right(qreg_x86_inductor.compile(module), module, [torch.randn(IMAGES)])


def test_without_the_guard_the_residual_is_overwritten(
    converted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trap is there, in this torch: if this fails, the guard may have become needless."""
    torch.compiler.reset()
    monkeypatch.setattr("qreg_x86_inductor.guard.guard", lambda graph: 0)
    monkeypatch.setattr("qreg_x86_inductor.guard._digest", lambda: b"without")
    run = qreg_x86_inductor.compile(converted(Input("linear"), ROWS, ROWS))
    x, residual = torch.randn(ROWS), torch.randn(ROWS)
    before = residual.clone()
    first, second = run(x, residual).clone(), run(x, residual)
    assert not torch.equal(residual, before)
    assert not torch.equal(first, second)


def test_copies_are_made_only_where_something_can_be_overwritten(
    converted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qreg_x86_inductor import guard

    copies: list[int] = []
    inner = guard.guard
    monkeypatch.setattr("qreg_x86_inductor.guard._digest", lambda: b"counted")
    monkeypatch.setattr(guard, "guard", lambda graph: copies.append(inner(graph)))
    for case in (OfAKernel, Input):
        torch.compiler.reset()
        model = converted(case("linear"), ROWS, ROWS)
        qreg_x86_inductor.compile(model)(torch.randn(ROWS), torch.randn(ROWS))
    assert copies == [0, 1]
