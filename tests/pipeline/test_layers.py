"""Pins the way of a model through the packages: calls go down the layers of ARCHITECTURE.md."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
import torch
from attrs import define, field
from quantizing import TwoLinears

import qreg
from qreg import Registry

HOST = Path(qreg.__file__).parent
ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"
PLUGIN = "toy.py"


@functools.cache
def package_of(filename: str) -> str | None:
    """The package of the host that a file is in."""
    path = Path(filename)
    return path.relative_to(HOST).parts[0] if path.is_relative_to(HOST) else None


def levels() -> dict[str, int]:
    """The layer of each package, counted from the top."""
    table = (
        ARCHITECTURE.read_text(encoding="utf-8")
        .partition("## Layers")[2]
        .partition("## The way")[0]
    )
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return {name: level for level, row in enumerate(rows) for name in re.findall(r"`(\w+)`", row)}


@define
class Calls:
    """The calls between packages of the host, each with the names of two functions.

    What a plugin calls is not a call of the host's.
    """

    found: dict[tuple[str, str], tuple[str, str]] = field(factory=dict)

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        callee = package_of(frame.f_code.co_filename) if event == "call" else None
        if callee is None:
            return
        caller = frame.f_back
        while caller is not None and package_of(caller.f_code.co_filename) is None:
            if caller.f_code.co_filename.endswith(PLUGIN):
                return
            caller = caller.f_back
        if caller is not None:
            package = package_of(caller.f_code.co_filename) or ""
            names = caller.f_code.co_name, frame.f_code.co_name
            self.found.setdefault((package, callee), names)


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
WAYS: dict[str, Callable[..., object]] = {
    "quantize": lambda **given: qreg.quantize(TwoLinears().eval(), X, calibration=[X], **given),
    "explain": lambda **given: qreg.explain(TwoLinears().eval(), X, **given),
    "explain with everything": lambda **given: qreg.explain(
        TwoLinears().eval(),
        X,
        calibration=[X],
        numerics=True,
        sensitivity=True,
        timing=True,
        **given,
    ),
    "lower": lambda **given: qreg.lower(TwoLinears().eval(), X, **given),
}


@pytest.mark.parametrize("way", WAYS)
def test_calls_go_down_the_layers(way: str, registry: Registry) -> None:
    calls, level = Calls(), levels()
    arguments = {} if way == "lower" else {"progress": False}
    sys.setprofile(calls)
    try:
        WAYS[way](backend="toy", registry=registry, **arguments)
    finally:
        sys.setprofile(None)
    between = {pair: names for pair, names in calls.found.items() if pair[0] != pair[1]}
    up = {pair: names for pair, names in between.items() if level[pair[0]] >= level[pair[1]]}
    assert up == {}
    assert {"programs", "folding", "graph"} <= {callee for _, callee in between}
