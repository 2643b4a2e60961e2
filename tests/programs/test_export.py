"""Pins the export: the model is left as it was, and dynamic dimensions survive a second export."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from qreg.errors import ExportError
from qreg.graph.mutation import written_buffers
from qreg.programs.export import dynamic_shapes_of, export

X = torch.zeros(2, 3)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop, self.frozen = nn.Dropout(), nn.BatchNorm1d(3).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(self.drop(x))


def operators(module: nn.Module) -> list[str]:
    graph = export(module, (X,)).graph
    return [str(node.target) for node in graph.nodes if node.op == "call_function"]


def test_a_model_is_exported_in_eval_mode_and_keeps_its_modes() -> None:
    model = Dropping()
    assert operators(model) == operators(Dropping().eval())
    assert [model.training, model.drop.training, model.frozen.training] == [True, True, False]


def test_a_model_of_inference_mode_is_exported_as_any_other() -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    program = export(model, (X,))
    assert not any(each.is_inference() for each in program.state_dict.values())
    with torch.inference_mode():
        wanted = model(X)
    torch.testing.assert_close(program.module()(X), wanted.clone())
    assert all(each.is_inference() for each in model.parameters())


def test_the_modes_come_back_after_an_error_too() -> None:
    model = Dropping()
    with pytest.raises(ExportError):
        export(model, (X, X))
    assert model.drop.training


def test_operators_under_no_grad_are_in_the_graph_itself() -> None:
    class Frozen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return x + x

    assert operators(Frozen()) == ["aten.add.Tensor"]


def test_a_model_that_does_not_export_names_its_type_and_the_cause() -> None:
    class DataDependent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match="could not export DataDependent") as caught:
        export(DataDependent(), (X,))
    assert caught.value.__cause__ is not None


def test_static_shapes_stay_static() -> None:
    assert dynamic_shapes_of(export(nn.ReLU(), (X,)), (X,)) is None


def test_dynamic_dimensions_come_back_with_their_bounds() -> None:
    program = export(nn.ReLU(), (X,), ({0: Dim("batch", min=2, max=16)},))
    again = export(program.module(check_guards=False), (X,), dynamic_shapes_of(program, (X,)))
    (before,), (after,) = program.range_constraints.values(), again.range_constraints.values()
    assert (int(after.lower), int(after.upper)) == (int(before.lower), int(before.upper)) == (2, 16)


def test_an_unbounded_dimension_stays_unbounded() -> None:
    program = export(nn.ReLU(), (X,), ({1: Dim.DYNAMIC},))
    again = export(program.module(check_guards=False), (X,), dynamic_shapes_of(program, (X,)))
    assert list(again.range_constraints.values()) == list(program.range_constraints.values())


def test_dynamic_dimensions_keep_the_form_of_the_inputs() -> None:
    class OfDict(nn.Module):
        def forward(self, x: Tensor, more: dict[str, Tensor]) -> Tensor:
            return x + more["y"]

    inputs = (X, {"y": torch.zeros(2, 3)})
    batch = Dim("batch", min=2, max=16)
    program = export(OfDict(), inputs, ({0: batch}, {"y": {0: batch}}))
    shapes = dynamic_shapes_of(program, inputs)
    assert set(shapes[0]) == set(shapes[1]["y"]) == {0}
    again = export(program.module(check_guards=False), inputs, shapes)
    wide = torch.ones(9, 3)
    assert torch.equal(again.module()(wide, {"y": wide}), wide + wide)


class Joined(nn.Module):
    def forward(self, cache: Tensor, x: Tensor) -> Tensor:
        return torch.cat([cache, x.reshape(1, 2, 1, 4)], 2)


@pytest.mark.parametrize("deferred", [False, True])
def test_sizes_that_the_model_fixes_are_not_dynamic(*, deferred: bool) -> None:
    inputs = (torch.zeros(1, 2, 5, 4), torch.zeros(1, 1, 8))
    every = tuple(dict.fromkeys(range(each.dim()), Dim.AUTO) for each in inputs)
    program = torch.export.export(
        Joined(), inputs, dynamic_shapes=every, prefer_deferred_runtime_asserts_over_guards=deferred
    )
    shapes = dynamic_shapes_of(program, inputs)
    assert [set(each) for each in shapes] == [{2}, set()]
    again = export(program.module(check_guards=False), inputs, shapes)
    assert again.module()(torch.zeros(1, 2, 9, 4), inputs[1]).shape == (1, 2, 10, 4)


class Assigning(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kept = nn.Buffer(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.kept * 0.5 + x
        return self.kept * 2


def test_a_buffer_assigned_in_a_submodule_is_an_error_that_names_it() -> None:
    with pytest.raises(ExportError, match=r"buffer 0\.kept: .* Use self\.kept\.copy_"):
        export(nn.Sequential(Assigning()), (torch.ones(4),))


def test_a_buffer_assigned_in_the_model_itself_is_written() -> None:
    graph = export(Assigning(), (torch.ones(4),)).module(check_guards=False)
    assert written_buffers(graph.graph) == {"kept"}
