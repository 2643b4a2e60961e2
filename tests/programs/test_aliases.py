"""State that a model has under several names has the names of its buffers in programs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qreg.graph.mutation import written_buffers
from qreg.programs.aliases import named_by_buffers
from qreg.programs.export import exported


class Layer:
    """Holds tensors and is not a module, as the layers of caches in transformers."""

    def __init__(self) -> None:
        self.keys, self.count = torch.zeros(4), torch.zeros(1, dtype=torch.long)


class Cached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Layer()
        self.register_buffer("keys_0", self.layer.keys)
        self.register_buffer("count_0", self.layer.count)

    def forward(self, x: Tensor) -> Tensor:
        self.layer.keys.add_(x)
        self.layer.count.add_(x.shape[0])
        return self.layer.keys + self.layer.count


def test_a_constant_that_is_a_buffer_has_the_name_of_the_buffer() -> None:
    model, x = Cached(), torch.ones(4)
    program, _ = exported(model, (x,), None)
    graph = program.module(check_guards=False)
    assert {"keys_0", "count_0"} <= written_buffers(graph.graph)
    assert [graph(x).tolist() for _ in range(2)] == [[5.0] * 4, [10.0] * 4]


def test_the_counters_of_a_model_are_left_as_they_were() -> None:
    model, x = Cached(), torch.ones(4)
    program, _ = exported(model, (x,), None)
    assert model.layer.count.item() == 0
    assert program.state_dict["count_0"].item() == 0


def test_a_program_is_not_changed_and_one_without_such_constants_is_returned() -> None:
    program = torch.export.export(Cached(), (torch.ones(4),))
    before = str(program.graph)
    assert str(named_by_buffers(program).graph) != before
    assert str(program.graph) == before
    plain = torch.export.export(nn.Linear(4, 4), (torch.ones(4),))
    assert named_by_buffers(plain) is plain
