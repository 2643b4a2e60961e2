"""Recurrent layers, decomposed, against torch's own layers and formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, export
from torch.fx import GraphModule

from qreg.graph.nodes import called
from qreg.graph.recurrence import RECURRENT, spell_out_recurrence, without_recurrence

STATIC: Any = frozenset({"static"})
QAT: Any = frozenset({"qat"})
FLOAT32 = 1e-6  # of values up to 1


class Streaming(nn.Module):
    """A layer whose state is an input and an output; the cell of an LSTM is an input of its own."""

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
