"""A call that is added has the value that it computes, and the origin that it is given."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import export

from qreg.graph.insertion import call_before
from qreg.graph.provenance import CUSTOM, KEY, origin

aten = torch.ops.aten


class Model(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.relu(x) + y


def test_a_call_has_the_fake_tensor_that_it_computes() -> None:
    program = export(Model(), (torch.ones(2, 3), torch.ones(2, 3)))
    (relu,) = program.graph.find_nodes(op="call_function", target=aten.relu.default)
    relu.meta[CUSTOM] = {KEY: "relu"}
    given = relu.all_input_nodes[0]
    turned = call_before(relu, aten.permute.default, given, [1, 0])
    assert turned.next is relu
    assert turned.meta["val"].shape == (3, 2)
    assert set(turned.meta) == {"val"}
    doubled = call_before(relu, aten.mul.Tensor, given, 2.0, inherit=True)
    assert (origin(doubled), doubled.meta["val"].shape) == ("relu", (2, 3))


def test_a_value_that_is_given_is_not_computed() -> None:
    program = export(Model(), (torch.ones(2, 3), torch.ones(2, 3)))
    (add,) = program.graph.find_nodes(op="call_function", target=aten.add.Tensor)
    value = torch.empty(7)
    made = call_before(add, aten.neg.default, add.all_input_nodes[0], value=value)
    assert made.meta["val"] is value


def test_the_graph_computes_with_what_was_added() -> None:
    program = export(Model(), (torch.ones(2, 3), torch.ones(2, 3)))
    (relu,) = program.graph.find_nodes(op="call_function", target=aten.relu.default)
    source = relu.all_input_nodes[0]
    relu.replace_input_with(source, call_before(relu, aten.neg.default, source))
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    program.graph_module.recompile()
    torch.testing.assert_close(program.module()(x, y), torch.relu(-x) + y)
