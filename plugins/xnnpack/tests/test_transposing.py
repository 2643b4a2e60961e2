"""An ``addmm`` or matmul by a constant is quantized as the linear that it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.graph.transposing import with_linears


class Conv1D(nn.Module):
    """GPT-2's linear layer: a weight of shape (in, out)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return flat.view((*x.size()[:-1], self.weight.shape[1]))

    def linear(self) -> nn.Linear:
        made = nn.Linear(*self.weight.shape)
        made.weight.data, made.bias.data = self.weight.data.T.contiguous(), self.bias.data
        return made


class Block(nn.Module):
    """Two layers, of which one is called twice."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.second(torch.relu(y)) + self.second(y)  # type: ignore[no-any-return]


torch.manual_seed(0)
LAYERS = Conv1D(64, 96), Conv1D(96, 64)
MODEL = Block(*LAYERS).eval()
BATCHES = [(torch.randn(2, 5, 64),) for _ in range(4)]


@pytest.mark.parametrize("config", ["int4_dynamic_groupwise", "int8_dynamic_per_channel"])
def test_its_program_computes_what_that_of_a_linear_computes(config: str) -> None:
    other = Block(*(each.linear() for each in LAYERS)).eval()
    found, wanted = (
        qreg.quantize(model, BATCHES[0], calibration=BATCHES, config=config, progress=False)
        for model in (MODEL, other)
    )
    assert torch.equal(found.run(*BATCHES[0]), wanted.run(*BATCHES[0]))
    quantized = [each for each in found.decisions if each.quantized]
    assert [each.operator for each in quantized] == ["aten.linear.default"] * 3
    assert [each.module for each in quantized] == ["first", "second", "second"]
    assert found.audit is not None
    assert found.audit.defects == ()


def exported() -> torch.fx.GraphModule:
    graph_module: torch.fx.GraphModule = torch.export.export(MODEL, BATCHES[0]).module()
    return graph_module


def test_a_weight_is_transposed_once_for_all_calls() -> None:
    rewritten = with_linears("dynamic")(exported(), frozenset({"dynamic"}))
    weights = [n.args[1] for n in rewritten.graph.nodes if str(n.target) == "aten.linear.default"]
    assert len(weights) == 3
    assert weights[1] is weights[2]
    torch.testing.assert_close(rewritten(*BATCHES[0]), MODEL(*BATCHES[0]))


class Plain(nn.Module):
    """Products by two constants, and by an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Parameter(torch.randn(64, 32)), nn.Parameter(torch.randn(32, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        narrow = x @ self.one
        return torch.mm(narrow.flatten(0, 1), self.other), torch.bmm(narrow, narrow.transpose(1, 2))


def test_a_matmul_by_a_constant_is_a_linear_too() -> None:
    torch.manual_seed(0)
    model, (x,) = Plain().eval(), BATCHES[0]
    result = qreg.quantize(model, (x,), config="int8_dynamic_per_channel", progress=False)
    found = {each.name: each.place for each in result.report.operators}
    assert (found["matmul"], found["mm"], found["bmm"]) == ("int8", "int8", "float")
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_converted) > 100
    assert min(each.sqnr for each in result.verification.to_float) > 30


@pytest.mark.parametrize("mode", ["static", "qat"])
def test_weights_of_other_configs_stay(mode: qreg.Mode) -> None:
    before = exported()
    after = with_linears("dynamic")(exported(), frozenset({mode}))
    assert str(after.graph) == str(before.graph)
