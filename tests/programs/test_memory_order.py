"""Pins that programs take contiguous inputs, whatever memory the example and the weights have."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim

from qreg.programs.export import exported
from qreg.programs.memory_order import in_order

LAST = torch.channels_last


def image() -> Tensor:
    """An image as it is read from a file, with the channels moved to their place."""
    return torch.rand(2, 6, 8, 3).permute(0, 3, 1, 2)


def inputs(program: torch.export.ExportedProgram) -> list[Tensor]:
    return [node.meta["val"] for node in program.graph.find_nodes(op="placeholder")]


def test_a_module_is_exported_with_contiguous_inputs_and_weights() -> None:
    model = nn.Conv2d(3, 4, 3).to(memory_format=LAST)
    program, (example,) = exported(model, (image(),), None)
    assert example.is_contiguous()
    assert all(each.is_contiguous() for each in inputs(program))
    assert program.state_dict["weight"].is_contiguous()
    assert model.weight.is_contiguous(memory_format=LAST)


def test_so_are_those_of_a_program_which_is_not_changed() -> None:
    model = nn.Conv2d(3, 4, 3).to(memory_format=LAST)
    given = torch.export.export(model, (image(),), dynamic_shapes=({0: Dim("batch", max=8)},))
    program, (example,) = exported(given, None, None)
    assert example.is_contiguous()
    assert inputs(program)[-1].stride()[-1] == 1
    assert inputs(given)[-1].stride()[-1] != 1
    more = torch.rand(3, 3, 6, 8)
    torch.testing.assert_close(program.module()(more), model(more))


def test_a_program_in_order_is_returned_as_it_is() -> None:
    program = torch.export.export(nn.Linear(3, 4), (torch.rand(2, 3),))
    assert in_order(program) is program
