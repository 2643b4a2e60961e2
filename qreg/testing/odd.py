"""Unusual graphs that occur in users' models and that authors of annotators may overlook.

Some are whole models. Others are one call of an operator, made from its schema: on integers, on a
tensor without dimensions or without elements, without optional arguments, with the same tensor
for all arguments, with constants where a value is expected and the other way round.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree

from qreg.errors import ExportError
from qreg.programs.export import export
from qreg.testing.graphs import graph_of
from qreg.testing.subject import Sample

Source = Callable[[Graph, str, Any], Node]


class Model(nn.Module):
    """A function as a model, with a linear layer, a parameter and an embedding table."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.linear, self.table = nn.Linear(4, 4), nn.Embedding(8, 4)
        self.p = nn.Parameter(torch.linspace(-1, 1, 16).reshape(4, 4))

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


@frozen
class Odd:
    """A model that is odd in one way; ``dynamic_shapes`` as for ``torch.export.export``."""

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    dynamic_shapes: Any = None


def _changed_in_a_view(m: Model, x: Tensor) -> Tensor:
    copied: Tensor = m.linear(x).clone()
    copied[0] = 1.0
    copied.add_(1).relu_()
    return copied + 1


def _without_gradients(m: Model, x: Tensor) -> Tensor:
    with torch.no_grad():
        inner: Tensor = m.linear(x).relu()
    return inner + 1


def _zoo() -> dict[str, Odd]:
    x, ids = torch.linspace(-1, 1, 16).reshape(4, 4), torch.arange(4)
    batch = ({0: torch.export.Dim("batch", min=2)},)
    nested = ((x, {"a": x}), None)
    return {
        "no operator": Odd(lambda m, x: x, (x,)),
        "an unused input": Odd(lambda m, x, y: m.linear(x), (x, ids)),
        "no input at all in the result": Odd(lambda m, x: m.p + 1, (x,)),
        "only constants computed": Odd(lambda m, x: (x, (m.p @ m.p).relu()), (x,)),
        "integers": Odd(lambda m, i: m.table(i + 1).sum() + (i * 2).sum(), (ids,)),
        "booleans": Odd(lambda m, x: torch.where(x > 0, x, x * 2) * (x < 1), (x,)),
        "doubles": Odd(lambda m, x: (x + x).relu() @ x.t(), (x.double(),)),
        "complex numbers": Odd(lambda m, x: torch.view_as_real(torch.fft.fft(x)), (x,)),
        "no dimensions": Odd(lambda m, x: x.sum() * x.mean() + x.max(), (x,)),
        "no elements": Odd(lambda m, x: m.linear(x[:0]).relu() + 1, (x,)),
        "several outputs of one operator": Odd(
            lambda m, x: (x.max(1), x.split(2), x.topk(2)), (x,)
        ),
        "changes in place and through views": Odd(_changed_in_a_view, (x,)),
        "a module that is called twice": Odd(lambda m, x: m.linear(m.linear(x)) - x, (x,)),
        "one tensor as every operand": Odd(lambda m, x: torch.cat([x + x, x * x, x]), (x,)),
        "a part under no_grad": Odd(_without_gradients, (x,)),
        "nested inputs and outputs": Odd(lambda m, a, _: {"b": [a[0] + a[1]["a"], None]}, nested),
        "dynamic shapes": Odd(
            lambda m, *xs: m.linear(xs[0]).reshape(-1).relu() + 1, (x,), (batch,)
        ),
    }


@functools.cache
def odd_models() -> dict[str, torch.export.ExportedProgram]:
    """Return the exported program of each odd model, by a description of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {
            f"a model with {name}": export(Model(each.function), each.inputs, each.dynamic_shapes)
            for name, each in _zoo().items()
        }


def variants(sample: Sample) -> Iterator[tuple[str, GraphModule]]:
    """Yield the graphs of a sample in other dtypes, if torch can export them."""
    for what, graph_module in _variants(sample):
        yield what, copy.deepcopy(graph_module)


@functools.lru_cache(maxsize=16)  # for each of the configs
def _variants(sample: Sample) -> list[tuple[str, GraphModule]]:
    return list(_converted(sample))


def _converted(sample: Sample) -> Iterator[tuple[str, GraphModule]]:
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        inputs = pytree.tree_map(functools.partial(_as_type, dtype=dtype), sample.inputs)
        module = copy.deepcopy(sample.module).to(dtype)
        with contextlib.suppress(ExportError):
            yield f"the sample in {dtype}", graph_of(module, inputs)


def _as_type(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


@frozen
class Kind:
    """The shape and dtype of the tensors of a call."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def tensor(self) -> Tensor:
        return torch.ones(self.shape, dtype=self.dtype)


KINDS = {
    "1 dimension": Kind((4,)),
    "2 dimensions": Kind((4, 4)),
    "3 dimensions": Kind((4, 4, 4)),
    "4 dimensions": Kind((4, 4, 4, 4)),
    "5 dimensions": Kind((4, 4, 4, 4, 4)),
    "no dimensions": Kind(()),
    "no elements": Kind((0, 4)),
    "int64": Kind((4, 4), torch.int64),
    "bool": Kind((4, 4), torch.bool),
    "float64": Kind((4, 4), torch.float64),
}


def _placeholder(graph: Graph, name: str, value: Any) -> Node:
    return _given(graph.placeholder(name), value)


def _constant(graph: Graph, name: str, value: Any) -> Node:
    return _given(graph.create_node("get_attr", name), value)


def _given(node: Node, value: Any) -> Node:
    node.meta["val"] = value
    return node


def find_operator(name: str) -> Any:
    """Return the overload of that name, ``"aten.addmm.default"``, or None."""
    namespace, _, rest = name.partition(".")
    packet, _, overload = rest.partition(".")
    found = getattr(getattr(torch.ops, namespace), packet, None)
    return getattr(found, overload, None) if overload else None


def odd_calls(operator: str) -> Iterator[tuple[str, GraphModule]]:
    """Yield graphs of one call of an operator, each with a description."""
    for what, root, graph in _calls(operator):
        yield what, GraphModule(root, copy.deepcopy(graph))


@functools.cache
def _calls(operator: str) -> list[tuple[str, nn.Module, Graph]]:
    """Return the graphs: annotators share operators, and torch rejects most candidates.

    Each GraphModule has a class of its own, and each class makes tracing slower.
    """
    return list(_made(operator))


def _made(operator: str) -> Iterator[tuple[str, nn.Module, Graph]]:
    overload = find_operator(operator)
    for name, kind in KINDS.items():
        for full in (False, True):
            optional = "with optional arguments" if full else "with required arguments only"
            for sizes in _sizes(len(kind.shape)):
                graphs = list(_graphs(overload, kind, full, sizes))
                for how, root, graph in graphs:
                    yield f"{operator} on {name}, {optional}, {how}", root, graph
                if graphs:
                    break


def _sizes(rank: int) -> list[list[int]]:
    """Return candidates for a list of integers: all 1, a shape, an order of dimensions."""
    return [[1], [1, 1], [-1], list(range(rank)), []]


def _graphs(
    overload: Any, kind: Kind, full: bool, sizes: list[int]
) -> Iterator[tuple[str, nn.Module, Graph]]:
    """Yield the call with inputs, with constants, and with one tensor for all arguments.

    Yield nothing if torch rejects the call.
    """
    for how, source, shared in (
        ("all of them inputs", _placeholder, False),
        ("all of them constants", _constant, False),
        ("one input everywhere", _placeholder, True),
    ):
        try:
            yield how, *_graph(overload, kind, full, sizes, source, shared)
        except Exception:  # torch rejects the call, with one of many errors
            return


def _graph(
    overload: Any, kind: Kind, full: bool, sizes: list[int], source: Source, shared: bool
) -> tuple[nn.Module, Graph]:
    graph, root, mode = Graph(), nn.Module(), FakeTensorMode()
    call = _Call(graph, root, mode, kind, sizes, source, shared)
    args = [call.argument(each) for each in _asked(overload, full)]
    overload(*pytree.tree_map_only(Node, lambda _: kind.tensor(), args))  # fails fast
    with mode:
        value = overload(*pytree.tree_map_only(Node, lambda node: node.meta["val"], args))
    node = _given(graph.call_function(overload, tuple(args)), value)
    node.meta["nn_module_stack"] = {"root": ("", "Root")}
    graph.output((node,))
    return root, graph


def _asked(overload: Any, full: bool) -> Iterator[Any]:
    for argument in overload._schema.arguments:
        if not argument.kwarg_only and (full or not argument.has_default_value()):
            yield argument


@frozen
class _Call:
    """Makes the arguments of one call."""

    graph: Graph
    root: nn.Module
    mode: FakeTensorMode
    kind: Kind
    sizes: Sequence[int]
    source: Source
    shared: bool

    def argument(self, schema: Any) -> Any:
        type_ = str(schema.type)
        if type_.startswith("Optional["):
            type_ = type_.removeprefix("Optional[").removesuffix("]")
        if type_ == "Tensor":
            return self._tensor(schema.name)
        if type_.startswith("List[Tensor]"):
            return [self._tensor(f"{schema.name}_{number}") for number in range(2)]
        if schema.has_default_value():
            return schema.default_value
        return {"List[int]": list(self.sizes), "float": 1.0, "bool": False}.get(type_, 1)

    def _tensor(self, name: str) -> Node:
        present: list[Node] = list(self.graph.nodes)
        if self.shared and present:
            return present[0]
        value = self.kind.tensor()
        if self.source is _constant:
            self.root.register_buffer(name, value)
        return self.source(self.graph, name, self.mode.from_tensor(value))
