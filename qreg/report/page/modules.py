"""The module tree, with sums over the operators of each module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import define, field

from qreg.report.page.numbers import decibels, share

if TYPE_CHECKING:
    from qreg.report.values import Operator, ReportData


@define(eq=False)
class Module:
    """A module, with the sums over its operators and those of all modules below it."""

    name: str
    path: str
    operators: int = 0
    int8: int = 0
    macs: int = 0
    int8_macs: int = 0
    sqnr: float | None = None
    children: dict[str, Module] = field(factory=dict)

    @property
    def worst(self) -> str:
        return "" if self.sqnr is None else decibels(self.sqnr)

    @property
    def int8_share(self) -> str:
        """The int8 share of the multiply-accumulates, or of the operators if there are none."""
        return share(self.int8_macs, self.macs) if self.macs else share(self.int8, self.operators)

    def child(self, name: str) -> Module:
        path = f"{self.path}.{name}" if self.path else name
        return self.children.setdefault(name, Module(name, path))

    def add(self, operator: Operator) -> None:
        self.operators += 1
        self.macs += operator.macs
        self.int8_macs += operator.int8_macs
        self.int8 += operator.runs_in_int8
        if operator.sqnr is not None:
            self.sqnr = operator.sqnr if self.sqnr is None else min(self.sqnr, operator.sqnr)


def module_tree(report: ReportData) -> Module:
    """Return the root module, which has the path ``""``; modules are in the order of the graph."""
    root = Module(report.model, "")
    for operator in report.operators:
        for module in _way(root, operator.module.split(".") if operator.module else ()):
            module.add(operator)
    return root


def _way(root: Module, names: Iterable[str]) -> list[Module]:
    way = [root]
    for name in names:
        way.append(way[-1].child(name))
    return way
