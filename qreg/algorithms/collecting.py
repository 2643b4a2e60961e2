"""Collect the statistics of algorithms in the pass that calibrates a prepared model."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from attrs import Factory, frozen
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from qreg.graph.prepared import OBSERVERS
from qreg.plugins.types.algorithm import Statistic


@frozen(eq=False)
class Collected:
    """Statistics by their name, then by operator; ``failed`` has the reasons of those that failed.

    A statistic with a value that is not finite has failed.
    """

    values: Mapping[str, Mapping[str, Any]] = Factory(dict)
    failed: Mapping[str, str] = Factory(dict)


class Collecting(Interpreter):
    """Run a prepared model, whose observers observe, and update statistics with each operator.

    While ``updating`` is False, the observers alone see the batches. With ``observing=False`` they
    see none. ``only`` has the operators that a statistic is updated with, by its name, for those
    that are not updated with all.
    """

    def __init__(
        self,
        prepared: GraphModule,
        statistics: Iterable[Statistic],
        *,
        observing: bool = True,
        only: Mapping[str, Container[str]] | None = None,
    ) -> None:
        super().__init__(prepared)
        self._observing = observing
        self._only = only or {}
        self._statistics = {each.name: each for each in statistics}
        self._values: dict[str, dict[Node, Any]] = {name: {} for name in self._statistics}
        self._failed: dict[str, str] = {}
        self.updating = True

    @property
    def collected(self) -> Collected:
        values = {
            name: {node.name: value for node, value in found.items() if value is not None}
            for name, found in self._values.items()
        }
        strange = {name: problem for name in values if (problem := _not_finite(values[name]))}
        return Collected(values, {**strange, **self._failed})

    def run_to(self, last: str, batch: tuple[Any, ...]) -> None:
        """Run a batch as far as the operator of this name."""
        self.env, self.args_iter = {}, iter(self.graph.process_inputs(*batch))
        for node in self.graph.nodes:
            self.env[node] = self.run_node(node)
            if node.name == last:
                break
            for done in self.user_to_last_uses.get(node, []):
                del self.env[done]
        self.env = {}

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not self._observing and isinstance(self.fetch_attr(target), OBSERVERS):
            return args[0]
        return super().call_module(target, args, kwargs)

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if self.updating and n.op == "call_function" and isinstance(result, Tensor):
            self._update(n, result)
        return result

    def _update(self, node: Node, output: Tensor) -> None:
        inputs = [v for each in node.all_input_nodes if isinstance(v := self.env[each], Tensor)]
        for name, statistic in self._statistics.items():
            if name in self._failed or node.name not in self._only.get(name, (node.name,)):
                continue
            values = self._values[name]
            try:
                values[node] = statistic.update(values.get(node), node, inputs, output)
            except Exception as cause:  # raised by a plugin
                self._failed[name] = f"its statistic {name!r} raised {cause!r} for {node.name!r}"


def _not_finite(values: Mapping[str, Any]) -> str | None:
    for name, value in values.items():
        for each in pytree.tree_leaves(value):
            if isinstance(each, Tensor) and not each.isfinite().all():
                return f"a statistic of {name!r} is not finite"
    return None
