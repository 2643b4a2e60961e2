"""Session fixtures that make torch and torchao do once what does not depend on the model.

torchao, and executorch's quantizer, export their patterns again for each model, in 0.15 s each; a
QAT model needs a hundred. The fixture exports each pattern once and returns copies, which may be
modified. torch looks up all registered operators 40 times in each decomposition of a program, an
eighth of the time in which a small model is quantized and lowered.
"""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Hashable, Iterator
from types import FunctionType
from typing import Any

import pytest
import torch

EXPORT = "_get_aten_graph_module_for_pattern"  # torchao 0.18.0
LOOK_UP = "_materialize_cpp_cia_ops"  # torch 2.13.0


@pytest.fixture(scope="session", autouse=True)
def patterns_exported_once() -> Iterator[None]:
    """Replace the export of patterns in torchao and in the modules that import it from there."""
    from torchao.quantization.pt2e import utils

    export = getattr(utils, EXPORT)
    with pytest.MonkeyPatch.context() as patch:
        for module in list(sys.modules.values()):
            if vars(module).get(EXPORT) is export:
                patch.setattr(module, EXPORT, once_for_each_content(export))
        yield


@pytest.fixture(scope="session", autouse=True)
def operators_looked_up_once() -> Iterator[None]:
    """Look up operators, which then stay in ``torch.ops``, only when others are registered."""
    from torch._export import utils

    look_up, known = getattr(utils, LOOK_UP), []

    def looked_up() -> None:
        found = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
        if found != known:
            look_up()
            known[:] = found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, LOOK_UP, looked_up)
        yield


def once_for_each_content(export: Any) -> Any:
    known: dict[Hashable, Any] = {}

    @functools.wraps(export)
    def exported(pattern: Any, *arguments: Any, **options: Any) -> Any:
        try:
            key = content((pattern, arguments, options))
            hash(key)
        except TypeError:
            return export(pattern, *arguments, **options)
        if key not in known:
            known[key] = export(pattern, *arguments, **options)
        return copy.deepcopy(known[key])

    return exported


def content(value: Any) -> Any:
    """Return what a pattern depends on: code with its closure, and the shapes of tensors."""
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return value.__code__, content(cells), content(value.__defaults__)
    if isinstance(value, torch.nn.Module):
        own = {name: each for name, each in vars(value).items() if not name.startswith("_")}
        return type(value), content(own)
    if isinstance(value, torch.Tensor):
        return value.shape, value.dtype, value.device
    if isinstance(value, dict):
        return tuple((name, content(each)) for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(content, value))
    return value
