"""Models that are prepared twice, for the tests of every backend: the float graph of the first time
is what algorithms change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from attrs import evolve
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.fx import GraphModule, Node
from torch.nn import functional as F

import qreg
from qreg import Decision
from qreg.algorithms.changes import write
from qreg.graph.prepared import copied, float_graph, is_prepared, observers
from qreg.graph.values import value_of
from qreg.pipeline.prepare import prepare_again
from qreg.plugins.registry import installed
from qreg.plugins.types.algorithm import Change


class Shared(nn.Module):
    """A convolution with a norm, twice, and a linear layer, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x)).relu() + self.norm(self.conv(x / 2))
        return self.fc(F.dropout(self.fc(y), training=self.training)).softmax(-1)


class Block(nn.Module):
    """A block of a transformer, with composites that transforms spell out."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, 8)
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.after, self.up, self.down = nn.RMSNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (
            each(y).unflatten(-1, (2, 4)).transpose(1, 2) for each in (self.q, self.k, self.v)
        )
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.silu(self.up(self.after(x)).clamp(max=4)))


class Counting(nn.Module):
    """A layer whose input is remembered in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.register_buffer("last", torch.zeros(2, 4, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x) + self.last
        self.last.copy_(y.detach())
        return self.fc(y).relu()


class Loop(nn.Module):
    """A loop with a layer in its body, next to a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.inner = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        def step(carry: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
            found = self.inner(row).relu() + carry
            return found, found.clone()

        y = self.fc(x)
        return self.fc(scan(step, y[0].clone(), y)[1])


class Recurrent(nn.Module):
    """A recurrent layer of 16 features, with a linear downstream."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.layer(x)[0])


SEQUENCE = (2, 4, 8)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "shared": (Shared, (1, 3, 8, 8)),
    "block": (Block, SEQUENCE),
    "gru": (lambda: Recurrent(nn.GRU(8, 16)), SEQUENCE),
    "lstm": (lambda: Recurrent(nn.LSTM(8, 16)), SEQUENCE),
    "state": (Counting, SEQUENCE),
    "loop": (Loop, SEQUENCE),
}


def check(backend: str, *more: str, without: tuple[str, ...] = ()) -> None:
    """Prepare each model but some again, with the first config of each mode, and with more.

    The model with state is left out for a backend whose programs keep none.
    """
    stateless = installed().backend(backend).value.stateless is not None
    first: dict[str, str] = {}
    for each in installed().configs(backend).values():
        first.setdefault(each.value.mode, each.value.name)
    for config in (*(first[mode] for mode in ("static", "dynamic") if mode in first), *more):
        for name in MODELS:
            if name not in without and (name != "state" or not stateless):
                check_model(backend, config, name)


def check_model(backend: str, config: str, name: str) -> None:
    """Prepare a model again, unchanged and with a layer in float, and compare."""
    torch.manual_seed(0)
    make, shape = MODELS[name]
    quantizer = qreg.get_quantizer(backend, config, allow_float=True)
    prepared = qreg.prepare(make().eval(), quantizer, (torch.randn(shape),))
    decisions, wanted = list(quantizer.decisions), described(prepared)
    reference = float_graph(prepared)

    second = quantizer.for_one_run()
    again = prepare_again(copied(reference), second)
    assert [of_view(each) for each in second.decisions] == [of_view(each) for each in decisions]
    assert described(again) == wanted, (config, name)
    assert not is_prepared(reference), (config, name)
    assert described(prepared) == wanted, (config, name)

    linear = [each.node for each in decisions if each.quantized and "linear" in each.operator]
    linear = [each for each in linear if each in {node.name for node in reference.graph.nodes}]
    third = quantizer.for_one_run()
    kept = write(copied(reference), [Change(each, in_float="noise") for each in linear], "float")
    prepare_again(kept, third)
    found = {each.node: each for each in third.decisions}
    assert all(found[each].reason == "noise" for each in linear), (config, name)
    assert [each.node for each in third.decisions] == [each.node for each in decisions]


def of_view(decision: Decision) -> Decision:
    """Name a view rather than its copy, which a pass of a backend may have written."""
    return evolve(decision, operator=decision.operator.replace("_copy.", "."))


def described(model: GraphModule) -> list[Any]:
    """Return the operators of a graph and of the bodies in it, with their observers.

    A constant is described by its shape and its observer where it is read, since two operators may
    read it through one node or through two.
    """
    called = observers(model)
    constant = {node for node in model.graph.nodes if node.op == "get_attr"}
    constant |= {node for node in called if node.args[0] in constant}
    nodes = [node for node in model.graph.nodes if node not in constant]
    names = {node: f"%{number}" for number, node in enumerate(nodes)}
    alike: dict[int, int] = {}

    def named(node: Node) -> str:
        if node in names:
            return names[node]
        if node in called:
            return f"{spec(called[node])} of {named(node.all_input_nodes[0])}"
        value = value_of(model, node)
        return "body" if isinstance(value, nn.Module) else f"constant of {tuple(value.shape)}"

    found: list[Any] = []
    for node in nodes:
        what: Any = str(node.target).replace("_copy.", ".")
        if node in called:
            observer = called[node]
            what = (alike.setdefault(id(observer), len(alike)), spec(observer))
        found.append((what, str(torch.fx.map_arg((node.args, node.kwargs), named))))
    bodies = [each for _, each in model.named_children() if isinstance(each, GraphModule)]
    return [found, *map(described, bodies)]


def spec(observer: Any) -> list[str]:
    names = ("dtype", "qscheme", "quant_min", "quant_max", "ch_axis", "is_dynamic", "eps")
    return [type(observer).__name__, *(str(getattr(observer, each, None)) for each in names)]
