"""Look up operators of torch without importing torch.

Listing must not import torch, and should report a misspelt target of an annotator. torch's wheel
includes the list that its aten operators are generated from.
"""

from __future__ import annotations

import functools
import re
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qreg.errors import ConfigError, near

# torchgen of torch 2.13.0; a test compares it with the operators that torch has.
NATIVE_FUNCTIONS = "packaged/ATen/native/native_functions.yaml"
# torch 2.13.0: the aten operators that are registered elsewhere.
ELSEWHERE = frozenset(
    f"aten.{name}"
    for name in (
        "get_gradients.default",
        *(f"quantized_{cell}.{way}" for cell in ("gru", "lstm") for way in ("data", "input")),
        *(
            f"quantized_{cell}.{way}_legacy"
            for cell in ("gru", "lstm")
            for way in ("data", "input")
        ),
    )
)
ATEN = "aten."


def misfit(target: str) -> str | None:
    """Return why no operator of a graph can have this name, or None if one can.

    Libraries other than aten register their operators on import, so only the form of their names is
    checked.
    """
    if not re.fullmatch(r"\w+\.\w+\.\w+", target):
        return f"{target!r} is not the name of an operator (expected namespace.name.overload)"
    if not target.startswith(ATEN):
        return None
    functional = _functional(target)
    if functional != target and _exists(functional):
        return f"{target!r} changes its input in place: graphs are searched for {functional!r}"
    if _exists(target):
        return None
    guesses = " or ".join(map(repr, near(target, listed())))
    return f"{target!r} is not an operator of torch{f' (near: {guesses})' if guesses else ''}"


def _functional(target: str) -> str:

    return operator_name(target)


def _exists(target: str) -> bool:
    if "torch" in sys.modules:
        return registered(target) is not None
    known = listed()
    return target in known or not known


def registered(target: str) -> object | None:
    """Return the ``OpOverload`` that torch has under a name, or None if there is none."""
    import torch

    found: object = torch.ops
    for part in target.split("."):
        found = getattr(found, part, None)
    return found


def is_operator(name: str) -> bool:
    """Whether torch has an operator of that name, with or without its overload."""
    from torch._ops import OpOverload, OpOverloadPacket

    return isinstance(registered(name), (OpOverload, OpOverloadPacket))


def checked_operator(operator: object) -> str:
    """Return the name of an operator: an overload, a packet, or the name of either.

    Raises ``ConfigError`` for anything else.
    """
    from torch._ops import OpOverload, OpOverloadPacket

    known = isinstance(operator, (OpOverload, OpOverloadPacket))
    if not known and not (isinstance(operator, str) and registered(operator)):
        guesses = " or ".join(map(repr, near(str(operator), listed())))
        raise ConfigError(
            f"{operator!r} is not an operator{f' (near: {guesses})' if guesses else ''}: pass "
            "torch.ops.aten.linear.default, the packet torch.ops.aten.linear, or the name of one, "
            '"aten.linear.default"'
        )
    return operator_name(operator)


@functools.cache
def listed() -> frozenset[str]:
    """Return the aten operators that torch is generated from; empty if the list is missing."""
    package = find_spec("torchgen")
    path = Path(package.origin or "").parent / NATIVE_FUNCTIONS if package else None
    if path is None or not path.is_file():
        return frozenset()
    text = path.read_text(encoding="utf-8")
    written = re.findall(r"^- func: ([\w.]+)\(", text, re.MULTILINE)
    generated = re.findall(r"^  autogen: (.*)$", text, re.MULTILINE)
    names = [*written, *(name for line in generated for name in re.split(r",\s*", line))]
    return ELSEWHERE.union(map(_overload, names))


def _overload(name: str) -> str:
    return f"{ATEN}{name}" if "." in name else f"{ATEN}{name}.default"


@lru_cache(maxsize=4096)
def operator_name(target: Any) -> str:
    """Return an operator's name in functional form: ``aten.add.Tensor`` for ``aten.add_.Tensor``.

    The name of an ``OpOverloadPacket``, which has no overload, is returned without one.
    """
    namespace, _, rest = str(target).partition(".")
    name, dot, overload = rest.partition(".")
    if name.endswith("_") and not name.startswith("_"):
        name = name.removesuffix("_")
    return f"{namespace}.{name}{dot}{overload}"
