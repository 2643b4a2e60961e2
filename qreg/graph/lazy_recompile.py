"""Generate the Python code of a graph module when it is called or read, not with each change.

A lowering recompiles graph modules some 200 times and calls about five of them: the passes
interpret graphs. torch's ``_LazyGraphModule`` does the same, but only for modules that are created
as such.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from torch.fx import GraphModule
from torch.fx.graph import _PyTreeCodeGen  # torch 2.13.0


def lazily(recompile: Callable[[GraphModule], Any]) -> Callable[[GraphModule], None]:
    """Return a replacement of ``GraphModule.recompile`` that defers it, for good if unused.

    A module can be called, read and copied after the replacement ends, but not pickled until it
    is recompiled. Its class serves it alone (``GraphModule.__new__``), so the class holds what is
    deferred.
    """

    def replacement(module: GraphModule) -> None:
        codegen = module.graph._codegen
        if isinstance(codegen, _PyTreeCodeGen):  # read without the code
            module._in_spec = codegen.pytree_info.in_spec
            module._out_spec = codegen.pytree_info.out_spec
        vars(module).pop("_code", None)
        for name in ("forward", "_code"):
            setattr(type(module), name, _Deferred(recompile, name))

    return replacement


@frozen
class _Deferred:
    """An attribute that recompiling sets: the function on the class, the code on the module."""

    recompile: Callable[[GraphModule], Any]
    name: str

    def __get__(self, module: GraphModule | None, owner: type) -> Any:
        if module is None:
            return self
        self.recompile(module)
        return getattr(module, self.name)
