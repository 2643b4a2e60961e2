"""Programs with inputs of registered types are exported again at any of their sizes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from qreg.programs.export import dynamic_shapes_of, export


class Pair:
    def __init__(self, one: Tensor, other: Tensor) -> None:
        self.one, self.other = one, other


class Sum(nn.Module):
    def forward(self, x: Tensor, pair: Pair) -> Tensor:
        return x + pair.one * pair.other


def test_the_dynamic_sizes_of_an_input_of_a_registered_type_are_kept() -> None:
    pytree.register_pytree_node(
        Pair,
        lambda pair: ([pair.one, pair.other], None),
        lambda values, _: Pair(*values),
        flatten_with_keys_fn=lambda pair: (
            [(pytree.GetAttrKey(name), getattr(pair, name)) for name in ("one", "other")],
            None,
        ),
        serialized_type_name="qreg.tests.Pair",
    )
    batch = {0: Dim("batch", min=2, max=8)}
    inputs = torch.randn(3, 4), Pair(torch.randn(3, 4), torch.randn(3, 4))
    program = export(Sum(), inputs, ({**batch}, [batch, batch]))
    again = export(program.module(), inputs, dynamic_shapes_of(program, inputs))
    other = torch.ones(5, 4), Pair(torch.full((5, 4), 2.0), torch.full((5, 4), 3.0))
    assert torch.equal(again.module()(*other), torch.full((5, 4), 7.0))
