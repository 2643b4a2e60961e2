"""The operator that marks a value to observe in an exported program; imports torch alone.

A mark is a call of ``qreg::observe`` with a value and a number. It keeps its place among operators
that write in place, so it sees what an observer in this place sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

See = Callable[[int, Tensor], None]

_seeing: ContextVar[See | None] = ContextVar("_seeing", default=None)
_library: Any = torch.library.Library("qreg", "DEF")  # type: ignore[no-untyped-call]
_library.define("observe(Tensor value, int number) -> ()")


def _observe(value: Tensor, number: int) -> None:
    see = _seeing.get()
    if see is not None:
        see(number, value)


_library.impl("observe", _observe, "CompositeExplicitAutograd")
OBSERVE: Any = torch.ops.qreg.observe.default
torch.fx.node.has_side_effect(OBSERVE)


@contextmanager
def seeing(see: See) -> Iterator[None]:
    """Call a function with the number and the value of each mark that runs."""
    token = _seeing.set(see)
    try:
        yield
    finally:
        _seeing.reset(token)
