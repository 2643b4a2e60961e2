"""Models that write to a buffer or in place: right on every call, and the model stays as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qreg
from qreg.plugins.registry import installed
from qreg.verification import verify as verification
from qreg_xnnpack.compat import program_of

CALLS = 5


class Model(nn.Module):
    """A convolution, a linear, and state that does not begin at zero."""

    def __init__(self, function: Callable[[Model, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.conv, self.lin = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(8, 8)
        self.scale = nn.Buffer(torch.ones(8))
        self.cache = nn.Buffer(torch.full((4, 8), 0.5))
        self.image = nn.Buffer(torch.full((1, 4, 1, 1), 0.5))
        self.calls = nn.Buffer(torch.ones(()))
        self.position = nn.Buffer(torch.zeros(1, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def read_then_written(self: Model, x: Tensor) -> Tensor:
    y = self.lin(x + self.scale)
    self.scale.add_(1)
    return y


def written_twice(self: Model, x: Tensor) -> Tensor:
    self.scale.add_(1)
    y = self.lin(x * self.scale)
    self.scale.mul_(0.5)
    return y


def sum_into_a_buffer(self: Model, x: Tensor) -> Tensor:
    self.scale.add_(x.mean((0, 1, 2)))
    return self.lin(x) + self.scale * 1.0


def counter(self: Model, x: Tensor) -> Tensor:
    self.calls += 1
    return self.lin(x) * self.calls


def shifted_cache(self: Model, x: Tensor) -> Tensor:
    key = self.lin(x[0, 0])
    self.cache[1:] = self.cache[:-1].clone()
    self.cache[0] = key[0]
    return self.lin(key) @ self.cache.t()


def cache_at_a_position(self: Model, x: Tensor) -> Tensor:
    self.cache.index_copy_(0, self.position, self.lin(x[0, 0])[:1])
    self.position.copy_((self.position + 1) % 4)
    return self.lin(self.cache * 1.0)


def indexed(self: Model, x: Tensor) -> Tensor:
    self.cache[torch.tensor([1])] = self.lin(x)[0, 0, :1]
    return self.cache + self.lin(x)[0, 0, :4]


def moving_average(self: Model, x: Tensor) -> Tensor:
    y = self.conv(x)
    self.image.mul_(0.9).add_(y.mean((2, 3), keepdim=True) * 0.1)
    return y - self.image


def written_bias(self: Model, x: Tensor) -> Tensor:
    y = F.linear(x, self.lin.weight, self.scale)
    self.scale.add_(1.0)
    return y * 1.5


def returned_as_it_is(self: Model, x: Tensor) -> Tensor:
    self.scale.add_(self.lin(x).mean((0, 1, 2)))
    return self.scale


def clamp_seen_by_a_view(self: Model, x: Tensor) -> Tensor:
    y = self.conv(x)
    view = y[:, :1]
    y.clamp_(-0.1, 0.1)
    return view + 1


def relu_seen_by_a_view(self: Model, x: Tensor) -> Tensor:
    y = self.conv(x)
    view = y.flatten(2)
    y.relu_()
    return view * 1.5


def sum_into_a_chunk(self: Model, x: Tensor) -> Tensor:
    y = self.conv(x)
    y.chunk(2, 1)[0].add_(1.0)
    return y * 1.5


def clamped_input_and_assigned_buffer(self: Model, x: Tensor) -> Tensor:
    x.clamp_(-0.1, 0.1)
    self.scale = self.scale * 0.9 + x.mean((0, 1, 2))
    return self.conv(x) + self.scale


def input_seen_by_a_view(self: Model, x: Tensor) -> Tensor:
    view = x.view(1, 2, 64)
    x.relu_()
    return self.conv(x).flatten(2)[:, :2] + view


STATE = (
    read_then_written,
    written_twice,
    sum_into_a_buffer,
    counter,
    shifted_cache,
    cache_at_a_position,
    indexed,
    moving_average,
    written_bias,
    returned_as_it_is,
)
VIEWS = (clamp_seen_by_a_view, relu_seen_by_a_view, sum_into_a_chunk)
PROGRAMS = {
    "state": STATE,
    "views": VIEWS,
    "input in place": (clamped_input_and_assigned_buffer,),
    "input seen by a view": (input_seen_by_a_view,),
}


class Together(nn.Module):
    """Several models with the same input, in one program."""

    def __init__(self, functions: tuple[Callable[[Model, Tensor], Tensor], ...]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(map(Model, functions))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(x) for part in self.parts)


def built(functions: tuple[Callable[[Model, Tensor], Tensor], ...]) -> nn.Module:
    return (Together(functions) if len(functions) > 1 else Model(*functions)).eval()


def listed(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def decibels(wanted: Tensor, found: Tensor) -> float:
    return verification.compare_all([[found]], [[wanted]])[0].sqnr


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_follows_the_float_model_over_several_calls(name: str) -> None:
    functions = PROGRAMS[name]
    model, independent = built(functions), built(functions)
    torch.manual_seed(1)
    batches = [(torch.randn(1, 2, 8, 8),) for _ in range(8)]
    given = [batch[0].clone() for batch in batches]
    before = {name: value.clone() for name, value in model.state_dict().items()}

    result = qreg.quantize(model, batches[0], calibration=batches, allow_float=True, progress=False)

    for (x,) in batches[:CALLS]:
        with torch.no_grad():
            wanted = independent(x.clone())
        pairs = zip(functions, listed(wanted), listed(result.run(x)), strict=True)
        for function, one, other in pairs:
            assert decibels(one, other) > 30, function.__name__
    assert not result.audit.defects
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(batch[0], value) for batch, value in zip(batches, given, strict=True))


class Cache(nn.Module):
    """Writes to a cache at a position, which it also reads before and after."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lin = nn.Linear(8, 8)
        self.keys = nn.Buffer(torch.full((1, 2, 6, 8), 0.5))

    def forward(self, keys: Tensor, position: Tensor) -> Tensor:
        before = self.keys.sum(2, keepdim=True)
        self.keys.index_copy_(2, position, self.lin(keys))
        return self.lin(self.keys * 2.0) + before


def test_a_cache_is_written_in_place_and_read_as_it_was() -> None:
    inputs = [(torch.randn(1, 2, 1, 8), torch.tensor([place])) for place in (0, 1, 5, 1)]
    lowered = qreg.lower(Cache().eval(), inputs[0])
    (plan,) = program_of(lowered.program).execution_plan
    assert "aten::index_put_" in {each.name for each in plan.operators}
    backend = installed().backend("xnnpack").value
    assert backend.load is not None
    model, run = Cache().eval(), backend.load(lowered.program)
    for given in inputs:
        assert decibels(model(*given).detach(), run(given)[0]) > 100


def test_a_buffer_may_have_the_name_of_an_input() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.total = nn.Buffer(torch.ones(3))

        def forward(self, total: Tensor) -> Tensor:
            self.total.add_(total.sum())
            return self.total * 1.0

    backend = installed().backend("xnnpack").value
    assert backend.load is not None
    run = backend.load(qreg.lower(Sum(), (torch.ones(2),)).program)
    assert [float(run([torch.ones(2)])[0][0]) for _ in range(3)] == [3, 5, 7]


def test_only_the_operator_that_touches_the_buffer_stays_in_float() -> None:
    x = torch.randn(1, 2, 8, 8)
    report = qreg.explain(Model(read_then_written).eval(), (x,), progress=False)
    found = {each.name: (each.status, each.reason) for each in report.operators}
    touched = "it reads or writes 'scale', which the model changes"
    assert found["linear"][0] == "annotated"
    assert found["add"] == found["add_"] == ("float", touched)


def test_in_place_operators_on_whole_tensors_run_in_int8() -> None:
    def in_place(self: Model, x: Tensor) -> Tensor:
        y = self.conv(x).clamp_(-0.5, 0.5)
        y.add_(0.5)
        return y.transpose(2, 3) * 2

    x = torch.randn(1, 2, 8, 8)
    report = qreg.explain(Model(in_place).eval(), (x,), progress=False)
    assert {each.status for each in report.operators} == {"annotated", "shared"}


def test_lowering_leaves_the_program_that_it_is_given_as_it_was() -> None:

    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.Softmax(-1)).eval()
    program = torch.export.export(model, (torch.randn(1, 2, 8, 8),))
    graph, names = str(program.graph), sorted(program.state_dict)
    first = qreg.lower(program)
    assert (str(program.graph), sorted(program.state_dict)) == (graph, names)
    assert qreg.lower(program).program == first.program
