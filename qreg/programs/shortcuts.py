"""Shortcuts through what torch and Python repeat in each pass over a program while it is lowered.

``benchmarks/lowering.py`` measures them. The program stays the same byte for byte. ``explain``
takes them too. Each shortcut
replaces a private name of torch, listed with the version that it was verified in.
``tests/programs/test_shortcuts.py`` fails if torch does not use the name any more.
"""

from __future__ import annotations

import copy
import functools
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch

from qreg.graph.forward_frames import frames_of_forward
from qreg.graph.lazy_recompile import recompiled_when_used

# torch 2.13.0: the operators that it decomposes by kernels in C++, and who looks them up
COLLECT = "_collect_all_valid_cia_ops"
COLLECTING = ("torch._export.utils", "torch.export.exported_program", "torch.export.decomp_utils")
# torch 2.13.0, of torch.export.exported_program: the keys that each of these operators gets kernels
# for while a program is decomposed
OVERRIDDEN = ("_AUTOGRAD_ALIAS_BACKEND_KEYS_TO_OVERRIDE", "_BACKEND_KEYS_TO_OVERRIDE")
IMPLICIT = "CompositeImplicitAutograd"
COMMON = {"AutogradCPU", "AutogradCUDA", "AutogradMeta", "CPU", "CUDA", "Meta"}

Replacement: TypeAlias = tuple[Any, str, Any]  # of an attribute: its owner, name and value

_lock = threading.Lock()
_replaced: list[Replacement] = []  # what torch has, while at least one lowering runs
_running = 0
_operators: dict[Any, set[Any]] = {}  # what was collected last, by what was registered
_froze = False
_exempted = False  # whether the program had exempted objects when a lowering began


@contextmanager
def shortcuts() -> Iterator[None]:
    """Take the shortcuts until the last of the lowerings that run in this process ends."""
    global _running
    with _lock:
        if not _running:
            _begin()
        _running += 1
    try:
        with recompiled_when_used(), frames_of_forward():
            yield
    finally:
        with _lock:
            _running -= 1
            if not _running:
                _end()


def _begin() -> None:
    """Replace the functions, and exempt what exists from the searches for garbage.

    A lowering creates enough objects for many searches. Each would go through all of torch's. A
    program that has exempted its objects keeps them so: they are counted once, one by one.
    """
    global _froze, _exempted
    _replace()
    _exempted = _exempted or gc.get_freeze_count() > 0
    _froze = not _exempted
    if _froze:
        gc.freeze()


def _end() -> None:
    if _froze:
        gc.unfreeze()
    while _replaced:
        setattr(*_replaced.pop())


def _replace() -> None:
    for owner, name, replacement in (*_replacements(), *_collected_once(), *_for_common_devices()):
        _replaced.append((owner, name, vars(owner)[name]))
        setattr(owner, name, replacement)


def _replacements() -> Iterator[Replacement]:
    from torch._ops import OperatorBase
    from torch.fx import traceback

    # torch 2.13.0: a decomposition registers many kernels for each of 200 operators.
    yield OperatorBase, "py_impl", _registered_at_once(OperatorBase.py_impl)
    # torch 2.13.0: NodeSource copies its history, which is never changed, in depth.
    yield traceback, "copy", SimpleNamespace(deepcopy=list, copy=copy.copy)


def _collected_once() -> Iterator[Replacement]:
    """Collect the operators once; torch asks for all that are registered, once per namespace."""
    modules = [import_module(name) for name in COLLECTING]
    once = _while_the_same(getattr(modules[0], COLLECT))
    yield from ((module, COLLECT, once) for module in modules)


def _for_common_devices() -> Iterator[Replacement]:
    """Skip the kernels for devices that this machine does not have, which are never called."""
    from torch.export import exported_program

    if torch.accelerator.current_accelerator() is None:
        for name in OVERRIDDEN:
            keys = getattr(exported_program, name)
            yield exported_program, name, [key for key in keys if key.name in COMMON]


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


def _while_the_same(collect: Callable[[], set[Any]]) -> Callable[[], set[Any]]:
    """Keep the operators that were collected until another one is registered."""
    kernels_in_python = functools.cache(_kernels_in_python)

    def replacement() -> set[Any]:
        kernels = torch._C._dispatch_get_registrations_for_dispatch_key(IMPLICIT)
        sizes = tuple(len(each._dir) for each in _namespaces())
        registered = tuple(kernels), sizes, kernels_in_python()
        if registered not in _operators:
            _operators.clear()
            _operators[registered] = collect()
        return _operators[registered]

    return replacement


def _kernels_in_python() -> frozenset[str]:
    """Return the operators with a decomposition in Python, which the dispatcher does not list."""
    from torch._ops import OpOverload, OpOverloadPacket

    key = getattr(torch._C.DispatchKey, IMPLICIT)
    packets = (each for space in _namespaces() for each in vars(space).values())
    overloads = (
        each
        for packet in packets
        if isinstance(packet, OpOverloadPacket)
        for each in vars(packet).values()
    )
    return frozenset(
        str(each) for each in overloads if isinstance(each, OpOverload) and key in each.py_kernels
    )


def _namespaces() -> list[Any]:
    from torch._ops import _OpNamespace  # torch 2.13.0

    return [each for each in vars(torch.ops).values() if isinstance(each, _OpNamespace)]
