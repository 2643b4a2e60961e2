"""Pins the multiply-accumulates of operators to a count by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan, while_loop
from torch._higher_order_ops.map import map as map_over
from torch.fx import GraphModule
from torch.nn import functional
from torch.utils.flop_counter import flop_registry, register_flop_formula
from torchao.quantization.pt2e import MinMaxObserver
from torchao.quantization.pt2e.quantizer import QuantizationSpec

from qreg import Annotation
from qreg.analysis.macs import Count, counts, float_macs
from qreg.graph.compat import annotate_node
from qreg.graph.provenance import mark

IMAGE = torch.zeros(2, 4, 8, 8)
QUERY, KEY = torch.zeros(3, 8, 5, 4), torch.zeros(3, 2, 7, 4)
STEPS = torch.zeros(3, 8, 40)  # batch, steps, features


class Call(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def counted(model: nn.Module, *inputs: Tensor, **options: Any) -> Count:
    """The sum over a model, whose bodies of control flow have no origins."""
    exported = torch.export.export(model.eval(), inputs, **options)
    return total(exported.module(check_guards=False))  # type: ignore[arg-type]


def total(graph: GraphModule) -> Count:
    mark(graph.graph)
    return sum(counts(graph).values(), Count())


LAYERS = [
    (nn.Linear(16, 8), [torch.zeros(3, 16)], 3 * 16 * 8),
    (nn.Linear(16, 8), [torch.zeros(2, 3, 16)], 2 * 3 * 16 * 8),
    (nn.Conv2d(4, 6, 3), [IMAGE], 2 * 6 * 6 * 6 * 4 * 3 * 3),
    (nn.Conv2d(4, 8, 3, groups=4), [IMAGE], 2 * 8 * 6 * 6 * 1 * 3 * 3),
    (nn.Conv2d(4, 6, 3, padding="same"), [IMAGE], 2 * 6 * 8 * 8 * 4 * 3 * 3),
    (nn.Conv1d(4, 6, 3), [torch.zeros(1, 4, 10)], 6 * 8 * 4 * 3),
    (nn.Conv3d(4, 6, 2), [torch.zeros(1, 4, 3, 3, 3)], 6 * 2 * 2 * 2 * 4 * 2 * 2 * 2),
    (nn.ConvTranspose2d(4, 6, 3, stride=2), [IMAGE], 2 * 4 * 8 * 8 * 6 * 3 * 3),
    (nn.ConvTranspose1d(4, 6, 3, groups=2), [torch.zeros(1, 4, 10)], 4 * 10 * 3 * 3),
    (nn.Bilinear(3, 4, 5), [torch.zeros(2, 3), torch.zeros(2, 4)], 2 * 5 * 3 * 4),
    (nn.GRU(40, 12, batch_first=True), [STEPS], 3 * 8 * 3 * 12 * (40 + 12)),
    (nn.RNN(40, 12), [STEPS], 3 * 8 * 12 * (40 + 12)),
    (nn.RNN(40, 12, nonlinearity="relu", bias=False), [STEPS], 3 * 8 * 12 * (40 + 12)),
    # The second layer reads both directions of the first.
    (
        nn.LSTM(40, 12, num_layers=2, bidirectional=True),
        [STEPS],
        3 * 8 * 2 * 4 * 12 * ((40 + 12) + (24 + 12)),
    ),
    (nn.LSTM(40, 12, proj_size=5), [STEPS], 3 * 8 * (4 * 12 * (40 + 5) + 12 * 5)),
    (nn.GRUCell(40, 12), [torch.zeros(3, 40)], 3 * 3 * 12 * (40 + 12)),
    (nn.LSTMCell(40, 12), [torch.zeros(3, 40)], 3 * 4 * 12 * (40 + 12)),
    (nn.RNNCell(40, 12), [torch.zeros(3, 40)], 3 * 12 * (40 + 12)),
    # Projections of query, key, value and output, and attention of 5 to 5 steps.
    (
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=True),
        [torch.zeros(3, 5, 16)],
        3 * 5 * 16 * (4 * 16 + 2 * 32) + 2 * 3 * 5 * 5 * 16,
    ),
]
FUNCTIONS = [
    (torch.matmul, [torch.zeros(5, 2, 3), torch.zeros(5, 3, 4)], 5 * 2 * 3 * 4),
    (torch.matmul, [torch.zeros(5, 2, 3), torch.zeros(3)], 5 * 2 * 3),
    (torch.mv, [torch.zeros(2, 3), torch.zeros(3)], 2 * 3),
    (torch.dot, [torch.zeros(3), torch.zeros(3)], 3),
    (torch.vdot, [torch.zeros(3), torch.zeros(3)], 3),
    (torch.inner, [torch.zeros(2, 3), torch.zeros(4, 3)], 2 * 4 * 3),
    (torch.addmm, [torch.zeros(2, 4), torch.zeros(2, 3), torch.zeros(3, 4)], 2 * 3 * 4),
    (torch.addmv, [torch.zeros(2), torch.zeros(2, 3), torch.zeros(3)], 2 * 3),
    (torch.baddbmm, [torch.zeros(5, 2, 4), torch.zeros(5, 2, 2), torch.zeros(5, 2, 4)], 80),
    (torch.addbmm, [torch.zeros(2, 4), torch.zeros(5, 2, 3), torch.zeros(5, 3, 4)], 5 * 2 * 3 * 4),
    (lambda a, b: torch.einsum("bij,bkj->bik", a, b), [STEPS, STEPS], 3 * 8 * 8 * 40),
    (lambda a, b: torch.tensordot(a, b, dims=([1, 2], [1, 2])), [STEPS, STEPS], 3 * 3 * 8 * 40),
    # (2, 9) x (9, 3) x (3, 4): torch starts with the cheaper pair, the last two.
    (
        lambda *matrices: torch.linalg.multi_dot(matrices),
        [torch.zeros(2, 9), torch.zeros(9, 3), torch.zeros(3, 4)],
        2 * 9 * 3 + 2 * 3 * 4,
    ),
    (torch.cdist, [STEPS, STEPS], 3 * 8 * 8 * 40),
    (lambda x: x.addmm_(x, x), [torch.zeros(4, 4)], 4 * 4 * 4),
    (
        functional.scaled_dot_product_attention,
        [torch.zeros(1, 2, 7, 4), torch.zeros(1, 2, 9, 4), torch.zeros(1, 2, 9, 6)],
        2 * 7 * 9 * (4 + 6),
    ),
    (
        lambda q, k: functional.scaled_dot_product_attention(q, k, k, enable_gqa=True),
        [QUERY, KEY],
        3 * 8 * 5 * 7 * (4 + 4),
    ),
    (
        lambda q: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q),
        [QUERY],
        3 * 8 * 5 * 5 * (4 + 4),
    ),
]
WITHOUT = [
    *(nn.ReLU(), nn.Softmax(1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(8)),
    *(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Upsample(scale_factor=2)),
    *(nn.Hardswish(), nn.PReLU(), nn.Dropout(), nn.Flatten(), nn.PixelShuffle(2), nn.ZeroPad2d(1)),
    Call(lambda x: torch.cat([x, x + 1, x[:, :2], x.cumsum(1)], 1).topk(2).values.mean((2, 3))),
    Call(lambda x: x.clone().abs_().clamp_(0, 1).transpose(1, 2).reshape(2, -1).sort().values),
]


@pytest.mark.parametrize(("model", "inputs", "wanted"), LAYERS)
def test_the_count_of_a_layer_is_that_of_a_hand(
    model: nn.Module, inputs: list[Tensor], wanted: int
) -> None:
    assert counted(model, *inputs) == Count(wanted)


@pytest.mark.parametrize(("function", "inputs", "wanted"), FUNCTIONS)
def test_the_count_of_a_function_is_that_of_a_hand(
    function: Callable[..., Any], inputs: list[Tensor], wanted: int
) -> None:
    assert counted(Call(function), *inputs) == Count(wanted)


@pytest.mark.parametrize("model", WITHOUT)
def test_what_moves_normalizes_or_reduces_values_counts_nothing(model: nn.Module) -> None:
    assert counted(model, IMAGE) == Count(0)


def test_packed_sequences_count_their_own_steps() -> None:
    """Of two sequences with 8 and 5 steps; torch.export does not take packed ones apart."""
    graph = torch.fx.Graph()
    data, sizes, state = (graph.placeholder(name) for name in ("data", "sizes", "state"))
    weights = [graph.placeholder(name) for name in ("ih", "hh", "bias_ih", "bias_hh")]
    shapes = [(13, 40), (8,), (1, 2, 12), (36, 40), (36, 12), (36,), (36,)]
    for node, shape in zip((data, sizes, state, *weights), shapes, strict=True):
        node.meta["val"] = torch.empty(shape, device="meta")
    rest = (True, 1, 0.0, False, False)
    node = graph.call_function(torch.ops.aten.gru.data, (data, sizes, state, weights, *rest))
    node.meta["val"] = (torch.empty(13, 12, device="meta"), torch.empty(1, 2, 12, device="meta"))
    graph.output(node)
    assert total(GraphModule(nn.Module(), graph)) == Count(13 * 3 * 12 * (40 + 12))


class Controlled(nn.Module):
    """Runs ``flow`` with a linear layer from 40 to 40 features."""

    def __init__(self, flow: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.flow, self.linear = flow, nn.Linear(40, 40)

    def forward(self, x: Tensor) -> Any:
        return self.flow(self.linear, x)


LINEAR = 3 * 8 * 40 * 40  # of all steps


def test_a_scan_counts_its_body_for_each_step() -> None:
    def flow(linear: nn.Module, x: Tensor) -> Any:
        return scan(lambda carry, step: (linear(step) + carry, step * 2), torch.zeros(8, 40), x)

    assert counted(Controlled(flow), STEPS) == Count(LINEAR)


def test_a_map_counts_its_body_for_each_element() -> None:
    assert counted(Controlled(map_over), STEPS) == Count(LINEAR)


def test_a_cond_counts_its_larger_branch() -> None:
    def flow(linear: nn.Module, x: Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda x: linear(linear(x)), linear, (x,))

    assert counted(Controlled(flow), STEPS) == Count(2 * LINEAR)


def test_a_loop_that_runs_unknown_times_is_not_counted() -> None:
    def flow(linear: nn.Module, x: Tensor) -> Any:
        start = torch.tensor(0)
        return while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, linear(x)), (start, x))

    why = "the number of iterations of while_loop is unknown"
    assert counted(Controlled(flow), STEPS) == Count(0, (why,))


def test_a_loop_without_products_has_nothing_to_count() -> None:
    def flow(linear: nn.Module, x: Tensor) -> Any:
        return while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x * 2), (torch.tensor(0), x))

    assert counted(Controlled(flow), STEPS) == Count(0)


def test_loops_within_loops_multiply() -> None:
    def inner(linear: nn.Module, x: Tensor) -> Any:
        return scan(lambda carry, step: (carry + 1, linear(step)), torch.zeros(40), x)[1]

    def flow(linear: nn.Module, x: Tensor) -> Any:
        return map_over(lambda step: inner(linear, step), x)

    assert counted(Controlled(flow), STEPS) == Count(LINEAR)


def test_what_runs_without_gradients_counts() -> None:
    def flow(linear: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            return linear(x) * 2  # type: ignore[no-any-return]

    assert counted(Controlled(flow), STEPS) == Count(LINEAR)


def test_dynamic_sizes_count_as_in_the_example() -> None:
    batch = torch.export.Dim("batch", min=2)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    fixed = counted(layer, torch.zeros(3, 5, 16))
    assert counted(layer, torch.zeros(3, 5, 16), dynamic_shapes=({0: batch},)) == fixed


def test_a_size_that_depends_on_the_data_is_not_counted() -> None:
    found = counted(Call(lambda x: x.nonzero().float() @ torch.ones(2, 3)), torch.ones(2, 4))
    assert found.macs == 0
    assert found.unknown == ("aten.matmul.default has a size that depends on the data",)


def test_what_has_no_formula_is_named_and_never_run() -> None:
    found = counted(Call(lambda x: torch.fft.rfft(x).real), STEPS)
    assert found == Count(0, ("aten._fft_r2c.default has no flop formula",))


@pytest.fixture
def solve() -> Iterator[Any]:
    """An operator of a custom namespace."""
    with torch.library._scoped_library("qreg_test", "DEF") as library:
        library.define("solve(Tensor x, Tensor y) -> Tensor")
        library.impl("solve", lambda x, y: x @ y, "CompositeExplicitAutograd")
        library.impl("solve", lambda x, y: x.new_empty(x.shape[0], y.shape[1]), "Meta")
        yield torch.ops.qreg_test.solve
        flop_registry.pop(torch.ops.qreg_test.solve, None)


def test_an_operator_of_somebody_else_counts_by_the_formula_it_registers(solve: Any) -> None:
    inputs = [torch.zeros(2, 3), torch.zeros(3, 4)]
    unknown = Count(0, ("qreg_test.solve.default has no flop formula",))
    assert counted(Call(solve), *inputs) == unknown

    def flops(x: Any, y: Any, out_shape: Any = None, **_: Any) -> int:
        return int(2 * x[0] * x[1] * y[1])

    register_flop_formula(solve)(flops)
    assert counted(Call(solve), *inputs) == Count(2 * 3 * 4)


def test_a_formula_that_fails_is_named(solve: Any) -> None:
    def flops(*_: Any, **__: Any) -> int:
        raise ValueError("only squares")

    register_flop_formula(solve)(flops)
    why = "the flop formula of qreg_test.solve.default failed: ValueError('only squares')"
    assert counted(Call(solve), torch.zeros(2, 3), torch.zeros(3, 4)) == Count(0, (why,))


@pytest.mark.parametrize(
    ("quantized", "in_float"),
    [((), 0), ((0, 1), 2 * 3 * 5 * 7 * 6), ((0, 1, 2), 0)],
)
def test_an_attention_multiplies_values_in_float_unless_they_are_quantized(
    quantized: tuple[int, ...], in_float: int
) -> None:
    query, key, value = (torch.zeros(2, 3, *sizes) for sizes in ((5, 4), (7, 4), (7, 6)))
    model = Call(functional.scaled_dot_product_attention)
    graph = torch.export.export(model, (query, key, value)).graph
    (node,) = graph.find_nodes(
        op="call_function", target=torch.ops.aten.scaled_dot_product_attention.default
    )
    spec = QuantizationSpec(torch.int8, MinMaxObserver)
    annotate_node(
        node, Annotation(node, {node.all_input_nodes[place]: spec for place in quantized})
    )
    assert float_macs(node) == in_float
