"""Recurrent layers, decomposed, against torch's own layers and formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, export
from torch.fx import GraphModule

from qreg.analysis.numerics import numerics
from qreg.graph.layers import part_of, row_of, rows
from qreg.graph.nodes import called
from qreg.graph.provenance import mark, numbered, origin, row
from qreg.graph.recurrence import (
    RECURRENT,
    spell_out_recurrence,
    why_whole,
    with_whole_recurrence,
    without_recurrence,
)
from qreg.verification.metrics import compare

STATIC: Any = frozenset({"static"})
QAT: Any = frozenset({"qat"})
FLOAT32 = 1e-6  # of values up to 1


class Streaming(nn.Module):
    """A layer whose state is an input and an output; an LSTM has two such states."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, *state: Tensor) -> Any:
        return self.layer(x, state[0] if len(state) == 1 else state)


LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.GRU(4, 5), (3, 2, 4)),
    (nn.GRU(4, 5, batch_first=True), (2, 3, 4)),
    (nn.GRU(4, 5, num_layers=3, bias=False), (3, 2, 4)),
    (nn.GRU(4, 5, num_layers=2, bidirectional=True, batch_first=True), (2, 3, 4)),
    (nn.GRU(4, 5), (3, 4)),
    (nn.GRU(4, 5), (1, 1, 4)),
    (nn.LSTM(4, 5), (3, 2, 4)),
    (nn.LSTM(4, 5, batch_first=True, bias=False), (2, 3, 4)),
    (nn.LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True), (2, 3, 4)),
    (nn.LSTM(4, 5, proj_size=3), (3, 2, 4)),
    (nn.LSTM(4, 5, proj_size=3, num_layers=2, bidirectional=True, bias=False), (3, 2, 4)),
    (nn.LSTM(4, 5, num_layers=2, dropout=0.5), (3, 2, 4)),
    (nn.LSTM(4, 5, bidirectional=True), (3, 4)),
    (nn.RNN(4, 5), (3, 2, 4)),
    (nn.RNN(4, 5, nonlinearity="relu", num_layers=2, batch_first=True), (2, 3, 4)),
    (nn.RNN(4, 5, bidirectional=True, bias=False), (3, 2, 4)),
    (nn.GRUCell(4, 5), (2, 4)),
    (nn.GRUCell(4, 5, bias=False), (4,)),
    (nn.LSTMCell(4, 5), (2, 4)),
    (nn.LSTMCell(4, 5, bias=False), (2, 4)),
    (nn.RNNCell(4, 5), (2, 4)),
    (nn.RNNCell(4, 5, nonlinearity="relu"), (4,)),
]


def random_state(layer: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        result = layer(x)
    final = result[1] if isinstance(layer, nn.RNNBase) else result
    states = final if isinstance(final, tuple) else (final,)
    return tuple(torch.randn_like(each) for each in states)


def flat(result: Any) -> list[Tensor]:
    return list(torch.utils._pytree.tree_leaves(result))


def assert_alike(results: Any, wanted: Any) -> None:
    pairs = list(zip(flat(results), flat(wanted), strict=True))
    assert pairs
    for got, expected in pairs:
        assert got.shape == expected.shape
        assert torch.allclose(got, expected, rtol=0, atol=FLOAT32)


def exported(model: nn.Module, inputs: tuple[Any, ...]) -> ExportedProgram:
    return export(model.eval(), inputs)


def names(graph_module: GraphModule) -> list[str]:
    return [called(node) for node in graph_module.graph.nodes if called(node)]


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("modes", [STATIC, QAT])
@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_a_decomposed_layer_computes_what_torch_computes(
    layer: nn.Module, shape: tuple[int, ...], modes: Any, with_state: bool
) -> None:
    x = torch.randn(shape)
    inputs = (x, *(random_state(layer, x) if with_state else ()))
    model = Streaming(layer) if with_state else layer
    graph_module = without_recurrence(exported(model, inputs).module(), modes)
    assert not RECURRENT.intersection(names(graph_module))
    with torch.no_grad():
        for given in (inputs, tuple(map(torch.randn_like, inputs))):
            assert_alike(graph_module(*given), model(*given))


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_a_decomposed_program_computes_what_torch_computes(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape)
    inputs = (x, *random_state(layer, x))
    model = Streaming(layer)
    program = exported(model, inputs)
    spell_out_recurrence(program)
    assert not RECURRENT.intersection(names(program.graph_module))
    with torch.no_grad():
        assert_alike(program.module()(*inputs), model(*inputs))


def decomposed(layer: nn.Module, *inputs: Tensor) -> GraphModule:
    return without_recurrence(exported(layer, inputs).module(), STATIC)


def test_the_operators_of_all_steps_are_a_few_rows_that_end_with_the_gates() -> None:
    graph = decomposed(nn.LSTM(4, 5, num_layers=2), torch.randn(6, 2, 4)).graph
    found = rows([node for node in graph.nodes if part_of(node)])
    names = ["lstm_input_l0", "lstm_hidden_l0", "lstm_input_l1", "lstm_hidden_l1", "lstm"]
    assert sorted(found) == sorted(names)
    assert list(found)[-1] == "lstm"
    # The state is zero ahead of the first step, so five of six steps have a product of the state.
    assert [len(found[name]) for name in names[:4]] == [1, 5, 1, 5]
    assert {called(node) for name in names[:4] for node in found[name]} == {"aten.linear.default"}
    parts = [part_of(node) for node in found["lstm"]]
    assert all(part and part.layer == "aten.lstm.input" and part.reason for part in parts)


def test_an_operator_outside_of_a_layer_is_a_row_by_itself() -> None:
    graph = exported(nn.Linear(4, 5), (torch.randn(2, 4),)).module().graph
    (linear,) = (node for node in graph.nodes if called(node))
    assert part_of(linear) is None
    assert row_of(linear) == linear.name
    assert rows([linear]) == {linear.name: [linear]}


def test_operators_of_one_row_have_one_origin_and_are_numbered() -> None:
    graph = decomposed(nn.GRU(4, 5), torch.randn(4, 2, 4)).graph
    mark(graph)
    hidden = [node for node in graph.nodes if origin(node) == "gru_hidden"]
    numbers = [numbered(graph)[node] for node in hidden]
    assert numbers == ["gru_hidden", "gru_hidden#1", "gru_hidden#2"]
    assert {row(number) for number in numbers} == {"gru_hidden"}


def test_the_noise_of_a_layer_is_that_of_its_output() -> None:
    x = torch.randn(4, 2, 4)
    one, other = (decomposed(nn.GRU(4, 5), x) for _ in range(2))
    mark(one.graph)
    mark(other.graph)
    found = {each.node: each.sqnr for each in numerics(one, other, [(x,)])}
    with torch.no_grad():
        wanted = compare(one(x)[0], other(x)[0]).sqnr
    assert found["gru"] == pytest.approx(wanted, abs=1e-3)
    assert found.keys() == {"gru_input", "gru_hidden", "gru"}


def test_biases_are_one_constant_of_the_product_of_the_input() -> None:
    layer = nn.LSTM(4, 5)
    graph_module = decomposed(layer, torch.randn(3, 2, 4))
    products = [node for node in graph_module.graph.nodes if called(node) == "aten.linear.default"]
    assert [len(node.args) for node in products] == [3, 2, 2]
    bias: Any = products[0].args[2]
    summed = layer.bias_ih_l0 + layer.bias_hh_l0
    assert torch.equal(getattr(graph_module, bias.target), summed.detach())


def test_all_steps_read_one_weight() -> None:
    graph = decomposed(nn.GRU(4, 5), torch.randn(9, 2, 4)).graph
    weights = [node.args[1] for node in graph.nodes if called(node) == "aten.linear.default"]
    assert len(weights) == 9
    assert len(set(weights[1:])) == 1


def test_a_backend_may_keep_a_layer_whole_for_a_reason() -> None:
    graph_module = exported(nn.GRU(4, 5), (torch.randn(3, 2, 4),)).module()
    kept = with_whole_recurrence("it is faster")(graph_module, STATIC)
    (layer,) = (node for node in kept.graph.nodes if called(node) in RECURRENT)
    part = part_of(layer)
    assert part is not None
    assert (part.row, part.layer, part.reason) == ("gru", "aten.gru.input", "it is faster")


def test_a_layer_with_dropout_stays_whole_in_training() -> None:
    model = nn.LSTM(4, 5, num_layers=2, dropout=0.5).train()
    program = export(model, (torch.randn(3, 2, 4),))
    (layer,) = (node for node in program.graph.nodes if called(node) in RECURRENT)
    assert "eval()" in str(why_whole(layer))
