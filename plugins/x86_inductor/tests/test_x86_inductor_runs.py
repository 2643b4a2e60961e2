"""Programs run in torch, and what runs in int8 is what Inductor's final graph says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from side_by_side import Share, Table
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

import qreg
from qreg import LoweredOperator
from qreg.plugins.registry import installed
from qreg_x86_inductor.config import supported_configs

IMAGE, ROWS = (2, 8, 8, 8), (4, 32)
LINEAR, CONV = "onednn.qlinear_pointwise", "onednn.qconv_pointwise"


def load(result: qreg.Result, **options: Any) -> Callable[..., Any]:
    runner: Callable[..., Any] = (
        installed().backend("x86_inductor").value.load(result.program, **options)
    )
    return runner


def operators(result: qreg.Result) -> dict[str | None, LoweredOperator]:
    assert result.lowered.operators is not None
    return {each.origin: each for each in result.lowered.operators if each.origin}


class Net(nn.Module):
    """Convolutions with what fuses into them, and what does not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(128, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x))
        x = functional.relu(x + self.second(self.second(x)))  # a module that is called twice
        x = functional.max_pool2d(x, 2).flatten(1)
        return functional.gelu(self.head(x)).tanh()


@pytest.fixture(scope="module")
def net(quantized: Callable[..., Any]) -> Any:
    return quantized(Net(), IMAGE)


def test_fused_operators_are_read_from_the_final_graph(
    net: Any, stays_right: Callable[..., None]
) -> None:
    result = net
    found = {name: (each.operator, each.int8) for name, each in operators(result).items()}
    residual = ("onednn.qconv2d_pointwise.binary", True)
    assert found == {
        **dict.fromkeys(("conv2d", "relu", "conv2d_1"), (CONV, True)),
        **dict.fromkeys(("conv2d_2", "add", "relu_1"), residual),
        "max_pool2d": ("quantized.max_pool2d", True),
        "flatten": ("aten.reshape on uint8", True),
        **dict.fromkeys(("linear", "gelu"), (LINEAR, True)),
        "tanh": ("aten.tanh.default", False),
    }
    assert operators(result)["conv2d"].gives == ("uint8",)
    assert result.audit.defects == ()
    assert [each.kind for each in result.lowered.conversions] == ["quantize"]
    run = load(result)
    stays_right(lambda *given: run(given), result.converted, [torch.randn(IMAGE)])


class Clamped(nn.Module):
    """Clamps after convolutions: with one bound, with an infinite one, with tensors as bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        first, second, third, fourth, last = self.convs
        x = first(x).clamp(min=-0.2)
        x = second(x).clamp(-0.3, float("inf"))
        x = torch.minimum(third(x), torch.tensor(0.3))
        return last(fourth(x).clamp(torch.tensor(-0.2), torch.tensor(0.4)))


class Left(nn.Module):
    """What torchao annotates, and Inductor computes in float: qreg leaves it there."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        product = self.second(x) * x
        pooled = functional.avg_pool2d(product, 3, 1, 1) + 1.0
        rounded = functional.max_pool2d(self.third(pooled), 3, 2, ceil_mode=True)
        return torch.add(rounded, functional.leaky_relu(rounded), alpha=2)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.first(x), self.second(x), alpha=2)


class Activated(nn.Module):
    """Sums of layers with an activation, on either side."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, y: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        first, second, conv = self.first(x), self.second(y), self.conv(image)
        return (
            first.relu() + y,
            x + second.relu(),
            first.relu() + second.relu(),
            functional.gelu(first) + second,
            second + functional.silu(first),
            (first.relu() + second).relu(),
            conv.relu() + image,
            functional.hardswish(conv) + conv,
        )


TABLE: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {
    "clamped": (Clamped(), [IMAGE]),
    "left": (Left(), [IMAGE]),
    "scaled": (Scaled(), [ROWS]),
    "activated": (Activated(), [(4, 8), (4, 8), (1, 3, 6, 6)]),
}


@pytest.fixture(scope="module")
def table(quantized: Callable[..., Any]) -> Table:
    """One package: compiling takes longer than all else."""
    return Table(TABLE, quantized)


def int8_of(share: Share) -> set[str]:
    return {name for name, each in share.placements.items() if each.place == "int8"}


def test_clamps_of_every_form_are_fused_into_convolutions(table: Table) -> None:
    share = table["clamped"]
    found = [each for name, each in operators(share.result).items() if name in share.nodes]
    assert all(each.int8 for each in found)
    assert {each.operator for each in found} == {CONV}
    assert share.defects == []
    assert share.to_float[0].sqnr > 30


def test_what_inductor_runs_in_float_is_not_annotated(table: Table) -> None:
    share = table["left"]
    decided = [each for each in share.decisions if each.quantized]
    assert [each.operator for each in decided] == ["aten.conv2d.default"] * 3
    assert int8_of(share) == {each.node for each in decided}
    assert share.defects == []


def test_a_factor_on_a_fused_addition_is_not_forgotten(table: Table) -> None:
    assert table["scaled"].to_converted[0].sqnr > 60


def test_activated_layers_are_summed(table: Table) -> None:
    share = table["activated"]
    assert min(each.sqnr for each in share.to_float) > 35
    assert len(int8_of(share)) >= 3


def test_dynamic_ranges_are_for_linears() -> None:
    """The kit compiles such a program, and checks that what is decided runs in int8."""
    dynamic = next(each.name for each in supported_configs() if each.mode == "dynamic")
    quantizer = qreg.get_quantizer("x86_inductor", dynamic)
    qreg.prepare(Net().eval(), quantizer, (torch.randn(IMAGE),))
    assert {each.node for each in quantizer.decisions if each.quantized} == {"linear", "gelu"}


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attend = nn.LayerNorm(32), nn.MultiheadAttention(32, 4, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attend(y, y, y, need_weights=False)[0]
        return x + self.feed(x)


@pytest.mark.slow
def test_a_dynamic_length_runs_at_other_sizes(quantized: Callable[..., Any]) -> None:
    shapes = ({1: Dim("length", min=2, max=64)},)
    result = quantized(Attention(), (2, 5, 32), dynamic_shapes=shapes)
    run = load(result)
    for length in (2, 5, 17):
        x = torch.randn(2, length, 32)
        with torch.no_grad():
            wanted = result.converted(x)
        for _ in range(3):
            torch.testing.assert_close(run([x])[0], wanted, atol=1e-4, rtol=1e-4)
    # The first linear reads a transposed input, which torch cannot compile at unknown sizes; the
    # activation follows a reshape, where it is not fused.
    decided = {each.node for each in result.decisions if each.quantized}
    assert decided == {"linear_1", "linear_2", "linear_3"}
    assert result.audit.defects == ()


class Structured(nn.Module):
    """Nested inputs, one of them changed in place; a number and None among the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 32)

    def forward(self, given: dict[str, Tensor], other: Tensor) -> dict[str, Any]:
        other.add_(1)
        return {"sum": self.layer(given["x"]) + other, "rest": [None, 3, given["x"]]}


def test_inputs_that_the_model_changes_are_changed_in_a_copy() -> None:
    torch.manual_seed(0)
    example = ({"x": torch.randn(ROWS)}, torch.randn(ROWS))
    result = qreg.quantize(
        Structured().eval(),
        example,
        backend="x86_inductor",
        calibration=[example],
        progress=False,
    )
    given = [torch.randn(ROWS), torch.randn(ROWS)]
    before = [value.clone() for value in given]
    first, second = (load(result)(given) for _ in range(2))
    assert all(map(torch.equal, given, before))
    assert all(map(torch.equal, first, second))
    assert len(first) == 2


SLOW_LAYOUT = pytest.param(torch.contiguous_format, marks=pytest.mark.slow)


@pytest.mark.parametrize("layout", [SLOW_LAYOUT, torch.channels_last])
def test_inputs_come_in_any_layout(quantized: Callable[..., Any], layout: Any) -> None:
    example = torch.randn(IMAGE).to(memory_format=layout)
    module = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()).eval()
    result = qreg.quantize(
        module, (example,), backend="x86_inductor", calibration=[(example,)], progress=False
    )
    run, x = load(result), torch.randn(IMAGE)
    with torch.no_grad():
        wanted = result.converted(x.to(memory_format=layout))
    for given in (x, x.to(memory_format=torch.channels_last), x.mT.contiguous().mT):
        torch.testing.assert_close(run([given])[0], wanted, atol=1e-5, rtol=1e-4)


def test_threads_are_put_back_behind_each_call(net: Any) -> None:
    seen: list[int] = []
    before = torch.get_num_threads()
    other = 2 if before == 1 else 1
    run = load(net, threads=other)
    inner = torch.set_num_threads
    try:
        torch.set_num_threads = lambda count: (seen.append(count), inner(count))[1]  # type: ignore
        run([torch.randn(IMAGE)])
    finally:
        torch.set_num_threads = inner
    assert seen == [other, before]
    assert torch.get_num_threads() == before


def test_scopes_are_kept_next_to_pooling(quantized: Callable[..., Any]) -> None:
    """torchao's quantizer alone stops at annotations of others, as qreg's scopes are for it."""
    module = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3))
    batches = [(torch.randn(2, 8, 12, 12),)]
    quantizer = qreg.get_quantizer("x86_inductor").set_module_name("0", None)
    result = qreg.quantize(
        module.eval(), batches[0], quantizer=quantizer, calibration=batches, progress=False
    )
    assert {each.node for each in result.decisions if each.quantized} == {"conv2d_1"}
    assert result.audit.defects == ()
