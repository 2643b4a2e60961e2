"""Generate the Python code of a graph module when it is used, not with each change of its graph.

A lowering recompiles graph modules some 200 times and calls about five of them: the passes
interpret graphs. Exports, preparing and converting recompile them for each of their passes too.
torch's ``_LazyGraphModule`` does the same, but only for modules that are created as such.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from attrs import frozen
from torch.fx import GraphModule
from torch.fx.graph import _PyTreeCodeGen  # torch 2.13.0

from qreg.graph.replaced import Replaced


def recompiled_when_used() -> Replaced:
    """Return a context that defers ``GraphModule.recompile`` until the last such block ends."""
    return _RECOMPILE


def _lazily(recompile: Callable[[GraphModule], Any]) -> Callable[[GraphModule], None]:
    """Return a replacement of ``GraphModule.recompile`` that defers it, for good if unused.

    A module can be used in any way after the replacement ends. Its class serves it
    alone (``GraphModule.__new__``), so the class holds what is deferred.
    """

    def replacement(module: GraphModule) -> None:
        codegen = module.graph._codegen
        if isinstance(codegen, _PyTreeCodeGen):  # read without the code
            module._in_spec = codegen.pytree_info.in_spec
            module._out_spec = codegen.pytree_info.out_spec
        vars(module).pop("_code", None)
        owner: Any = type(module)
        for name in ("forward", "_code"):
            setattr(owner, name, _Deferred(recompile, name, weakref.ref(module)))

        def reduced(module: GraphModule) -> Any:
            recompile(module)
            return super(owner, module).__reduce__()

        owner.__reduce__ = reduced

    return replacement


@frozen
class _Deferred:
    """An attribute that recompiling sets: the function on the class, the code on the module."""

    recompile: Callable[[GraphModule], Any]
    name: str
    module: weakref.ref[GraphModule]

    def __get__(self, module: GraphModule | None, owner: type) -> Any:
        served = self.module() if module is None else module
        if served is None:
            return self
        self.recompile(served)
        value = getattr(served, self.name)
        # Tracing reads the function of the class.
        return getattr(value, "__func__", value) if module is None else value


_RECOMPILE = Replaced(GraphModule, "recompile", _lazily)
