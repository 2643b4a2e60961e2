"""A backend whose programs are the same bytes for the same graph, unlike torch.export.save's."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from quantizing import TwoLinears, X, batches
from torch.export import ExportedProgram

import qreg
from qreg import Lowered, Option, Registry, Result

OPTIONS = (Option("level", 1, "for a test", least=0),)


def contents(toy: ModuleType, program: ExportedProgram) -> Lowered:
    """The graph as text, and every constant in it."""
    operators = list(toy.lowered_operators(program))
    parts = [str(program.graph).encode()]
    for name, each in sorted({**program.state_dict, **program.constants}.items()):
        raw = each.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        parts.append(f"{name} {each.dtype} {tuple(each.shape)} ".encode() + raw)
    return Lowered(b"\n".join(parts), delegates=1, operators=operators)


def plain_registry(toy: ModuleType, **fields: Any) -> Registry:
    def lowering(program: ExportedProgram, **options: object) -> Lowered:
        return contents(toy, program)

    return toy.variant("plain", lowering, load=None, **fields)  # type: ignore[no-any-return]


def made(registry: Registry, model: Any = None, **options: Any) -> Result:
    given: Mapping[str, Any] = {"backend": "plain", "calibration": batches(), **options}
    return qreg.quantize(model or TwoLinears(), X, registry=registry, progress=False, **given)


def followed(registry: Registry, recipe: Any, model: Any = None, **options: Any) -> Result:
    return qreg.quantize(
        model or TwoLinears(), X, recipe=recipe, registry=registry, progress=False, **options
    )
