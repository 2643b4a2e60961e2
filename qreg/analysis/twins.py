"""Run a float graph, and beside it each quantized pattern alone, on the values of the float graph.

Of each pattern, the nodes of the converted graph are run: with rounded inputs, weights and output,
and with the constants that algorithms have changed. What is outside of the pattern is in float.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg

from qreg.graph.compat import annotation_of
from qreg.graph.mutation import written_buffers
from qreg.graph.nodes import called
from qreg.graph.provenance import numbered, row
from qreg.graph.values import value_of

if TYPE_CHECKING:
    from qreg.plugins.types.decision import Decision


QUANTIZE = ("quantized_decomposed.quantize_per_", "quantized_decomposed.choose_qparams")
DEQUANTIZE = "quantized_decomposed.dequantize_per_"
DETACH = ("aten.detach.default", "aten.detach_.default")
Pattern = tuple[str, ...]
Seen = Callable[[Pattern, Any, Any], Any]


class Fresh(Interpreter):
    """Run a graph on samples, each with the state that the graph began with, which is kept."""

    def __init__(self, model: GraphModule) -> None:
        super().__init__(model, garbage_collect_values=False)
        self.written = written_buffers(model.graph)
        self._state: dict[str, Tensor] = {}

    def run(self, *args: Any, **options: Any) -> Any:
        """Run a sample; the values of the sample before are dropped."""
        self._state.clear()
        self.env.clear()
        return super().run(*args, **options)

    def fetch_attr(self, target: str) -> Any:
        """Return a constant without a gradient, and the state of this run."""
        found = super().fetch_attr(target)
        if not isinstance(found, Tensor):
            return found
        if target not in self.written:
            return found.detach()
        return self._state.setdefault(target, found.detach().clone())


class Twins(Fresh):
    """Run the float graph; call ``seen`` with the output of each pattern that others read.

    Its arguments are the pattern, the float output and the error that the pattern alone adds to it,
    of the same structure; it returns the output for the consumers. Gradients pass
    through ``detach``.
    """

    def __init__(
        self,
        reference: GraphModule,
        converted: GraphModule,
        decisions: Sequence[Decision],
        seen: Seen,
    ) -> None:
        super().__init__(reference)
        self._seen = seen
        self._local = _Local(converted, decisions)
        self._names = numbered(reference.graph)

    def run(self, *args: Any, **options: Any) -> Any:
        """Run a sample; the values of the sample before are dropped."""
        self._local.values.clear()
        self._local.own.clear()
        return super().run(*args, **options)

    def run_node(self, n: Node) -> Any:
        """Run a node, and its twin before it, which the node may overwrite the inputs of."""
        name = self._names.get(n)
        if called(n) in DETACH:
            (source,) = n.all_input_nodes
            self._local.values[name or n.name] = self.env[source]
            return self.env[source]
        pattern = self._local.pattern_of(name)
        twin = base = None
        if name and pattern:
            with torch.no_grad():
                twin, base = self._local.run(name, n)
        result = super().run_node(n)
        if name and pattern and self._is_read_by_others(n, pattern):
            error = _difference(twin, result if base is None else base)
            result = self._seen(pattern, result, error)
            self._local.own.pop(name, None)
        self._local.values[name or n.name] = result
        return result

    def _is_read_by_others(self, node: Node, pattern: Pattern) -> bool:
        return any(self._pattern_of(user) != pattern for user in _readers(node))

    def _pattern_of(self, node: Node) -> Pattern | None:
        return self._local.pattern_of(self._names.get(node))


class _Local:
    """The converted graph, of which one pattern at a time is run.

    ``values`` are those of the float graph by name; ``own`` those of the patterns that are only
    read inside of them.
    """

    def __init__(self, converted: GraphModule, decisions: Sequence[Decision]) -> None:
        self._model = converted
        self._names = numbered(converted.graph)
        self._nodes = {name: node for node, name in self._names.items()}
        quantized = [each for each in decisions if each.quantized]
        self._patterns = {each.node: each.pattern or (each.node,) for each in quantized}
        self._shared = {each.node for each in quantized if each.status == "shared"}
        self.values: dict[str, Any] = {}
        self.own: dict[str, Any] = {}

    def pattern_of(self, name: str | None) -> Pattern | None:
        """Return the pattern of an operator that both graphs have."""
        return self._patterns.get(row(name)) if name in self._nodes else None

    def run(self, name: str, reference: Node) -> tuple[Any, Any]:
        """Return the quantized output of an operator, and the one to compare it with.

        The latter is None if that is the float output. The input of an operator that shares qparams
        is rounded where it is produced, so that it is not an error of the operator.
        """
        node = self._nodes[name]
        self.own[name] = computed = self._computed(node, self._read)
        base = None
        if row(name) in self._shared and any(map(self._is_rounded_before, node.all_input_nodes)):
            base = self._computed(node, self._as_produced)
        return self._rounded(node, reference, computed), base

    def _computed(self, node: Node, read: Callable[[Node], Any]) -> Any:
        arguments: Any
        arguments, named = map_arg((node.args, node.kwargs), read)
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            arguments = [each.clone() if isinstance(each, Tensor) else each for each in arguments]
        return node.target(*arguments, **named)  # type: ignore[operator]

    def _read(self, node: Node) -> Any:
        """Return the value of an input of an operator, from float values outside of its pattern."""
        name = self._names.get(node)
        if name in self.own:
            return self.own[name]
        if name is not None or node.op == "placeholder":
            return _detached(self.values[name or node.name])
        if node.op == "get_attr":
            return value_of(self._model, node)
        quantizes = called(node).startswith(QUANTIZE)
        return self._computed(node, self._read_unrounded if quantizes else self._read)

    def _read_unrounded(self, node: Node) -> Any:
        """Return a value without the rounding of its producer, unless it is of the same pattern."""
        produced = _produced(node)
        return self._read(node if self._names.get(produced) in self.own else produced)

    def _as_produced(self, node: Node) -> Any:
        constant = _produced(node).op == "get_attr"
        if constant or self._is_rounded_before(node):
            return self._read(node)
        return self._read_unrounded(node)

    def _is_rounded_before(self, node: Node) -> bool:
        """Whether a value is rounded for its consumer and comes from a quantized operator."""
        produced = _produced(node)
        return produced is not node and self.pattern_of(self._names.get(produced)) is not None

    def _rounded(self, node: Node, reference: Node, value: Any) -> Any:
        """Return the output of an operator as its consumers read it."""
        annotation = annotation_of(reference)
        if annotation is None or annotation.output_qspec is None or not isinstance(value, Tensor):
            return value
        for quantize in node.users:
            for dequantize in quantize.users:
                if called(dequantize).startswith(DEQUANTIZE):
                    return self._through(dequantize, node, value)
        return value

    def _through(self, node: Node, source: Node, value: Tensor) -> Any:
        if node is source:
            return value
        if node.op == "get_attr":
            return value_of(self._model, node)
        return self._computed(node, lambda each: self._through(each, source, value))


def _readers(node: Node) -> list[Node]:
    """Return the consumers of a node, or of the parts of its output."""
    found: list[Node] = []
    for user in node.users:
        found += _readers(user) if user.target is operator.getitem else [user]
    return found


def _produced(node: Node) -> Node:
    """Return the node whose value a node quantizes or dequantizes; else the node itself."""
    while called(node).startswith((DEQUANTIZE, *QUANTIZE)):
        source = node.args[0]
        assert isinstance(source, Node)
        node = source
    return node


def _detached(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_detached, value))
    return value.detach() if isinstance(value, Tensor) else value


def _difference(one: Any, other: Any) -> Any:
    if isinstance(one, (list, tuple)):
        return [_difference(*pair) for pair in zip(one, other, strict=True)]
    if isinstance(one, Tensor) and one.is_floating_point() and one.shape == other.shape:
        return one - other.detach()
    return None
