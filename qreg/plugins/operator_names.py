"""Whether torch has an operator, answered without importing torch.

Listing must stay light, and a misspelt target of an annotator is best reported where annotators are
listed. torch's wheel includes the list that its aten operators are generated from.
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
    """Why no operator of a graph can have this name, or None if one can.

    Libraries other than aten register their operators when they are imported, so that their names
    are only checked for their form.
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
    """The ``OpOverload`` that torch has under a name, or None if there is none."""
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
    """The name of an overload, of a packet, or of what has the name of either.

    Raises ``ConfigError`` for anything else.
    """
    from torch._ops import OpOverload, OpOverloadPacket

    known = isinstance(operator, (OpOverload, OpOverloadPacket))
    if not known and not (isinstance(operator, str) and registered(operator)):
        guesses = " or ".join(map(repr, near(str(operator), listed())))
        raise ConfigError(
            f"{operator!r} is no operator{f' (near: {guesses})' if guesses else ''}: pass "
            "torch.ops.aten.linear.default, the packet torch.ops.aten.linear, or the name of one, "
            '"aten.linear.default"'
        )
    return operator_name(operator)


@functools.cache
def listed() -> frozenset[str]:
    """The aten operators by the list that torch was generated from; empty where there is none."""
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
    """An operator's name in its functional form: ``aten.add_.Tensor`` gives ``aten.add.Tensor``.

    A name without an overload, as an ``OpOverloadPacket`` has, stays without.
    """
    namespace, _, rest = str(target).partition(".")
    name, dot, overload = rest.partition(".")
    if name.endswith("_") and not name.startswith("_"):
        name = name.removesuffix("_")
    return f"{namespace}.{name}{dot}{overload}"
