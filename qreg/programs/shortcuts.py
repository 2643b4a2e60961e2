"""Shortcuts through what torch and Python repeat in each pass over a program while it is lowered.

``benchmarks/lowering.py`` measures them. The program stays the same byte for byte. Each shortcut
replaces a private name of torch, listed with the version that it was verified in.
``tests/programs/test_shortcuts.py`` fails if torch does not use the name any more.
"""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch.fx import GraphModule

from qreg.programs.lazy_recompile import lazily

LOOK_UP = "_materialize_cpp_cia_ops"  # torch 2.13.0, of torch._export.utils

_lock = threading.Lock()
_replaced: list[tuple[Any, str, Any]] = []  # what torch has, while at least one lowering runs
_running = 0
_froze = False


@contextmanager
def shortcuts() -> Iterator[None]:
    """Take the shortcuts until the last of the lowerings that run in this process ends."""
    global _running
    with _lock:
        if not _running:
            _begin()
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if not _running:
                _end()


def _begin() -> None:
    """Replace the functions, and exempt what exists from the searches for garbage.

    A lowering creates enough objects for many searches. Each would go through all of torch's.
    """
    global _froze
    _replace()
    _froze = not gc.get_freeze_count()  # a program that has exempted its objects keeps them so
    if _froze:
        gc.freeze()


def _end() -> None:
    if _froze:
        gc.unfreeze()
    while _replaced:
        setattr(*_replaced.pop())


def _replace() -> None:
    from torch._export import utils
    from torch._ops import OperatorBase
    from torch.fx import traceback

    for owner, name, replacement in (
        # torch 2.13.0: a decomposition registers about 40 kernels for each of 150 operators.
        (OperatorBase, "py_impl", _registered_at_once(OperatorBase.py_impl)),
        # torch 2.13.0: NodeSource copies its history, which is never changed, in depth.
        (traceback, "copy", SimpleNamespace(deepcopy=list, copy=copy.copy)),
        (utils, LOOK_UP, _when_there_are_others(getattr(utils, LOOK_UP))),
        (GraphModule, "recompile", lazily(GraphModule.recompile)),
    ):
        _replaced.append((owner, name, vars(owner)[name]))
        setattr(owner, name, replacement)


def _registered_at_once(register: Callable[..., Any]) -> Callable[..., Any]:
    """Register a kernel for a dispatch key without evaluating the type hints of a decorator."""
    python = torch._C.DispatchKey.Python  # for which modes are registered instead

    def replacement(operator: Any, key: Any) -> Any:
        kernels = operator.py_kernels
        if not isinstance(key, torch._C.DispatchKey) or key == python or key in kernels:
            return register(operator, key)

        def registered(kernel: Any) -> Any:
            kernels[key] = kernel
            operator._dispatch_cache.clear()
            return kernel

        return registered

    return replacement


def _when_there_are_others(look_up: Callable[[], None]) -> Callable[[], None]:
    """Look up all operators, which then stay in ``torch.ops``, if others have been registered."""
    known: list[str] = []

    def replacement() -> None:
        found = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
        if found != known:
            look_up()
            known[:] = found

    return replacement
