"""What makes a run of many tests short: exported patterns are kept, garbage and traces are not.

torchao and executorch's quantizer export the patterns that they search for anew for each model,
0.15 s each: a hundred for a QAT model. The cache returns copies, which they may change.

torch evaluates the type hints of a class for each value of it that it reads from a program's file,
and checks whether what it writes has a canonical form: half the time of small files.

Graphs create so many objects that Python's garbage collector takes a tenth of the time: it goes
through all modules of torch and all tests again and again. And pytest 9.2 captures what loggers
that do not propagate write. Torch then describes each tensor of a trace, with the stack of calls.

Each GraphModule has a class of its own, and for each trace Python goes through all classes that
inherit from ``torch.nn.Module``. A lowering exempts what exists from the garbage collector, and
garbage among it then stays until a full collection: thousands of classes, a seventh of the time.
Where the tests have exempted their modules, it exempts nothing.

The process that distributes tests to others would import torch for nothing, while these wait: the
``conftest.py`` files import it in fixtures.

Programs are not cached: a test sees what is lowered now, and writes nothing into the user's home.
"""

from __future__ import annotations

import copy
import functools
import gc
import logging
import os
import sys
from collections.abc import Callable, Hashable, Iterator
from types import FunctionType, SimpleNamespace
from typing import Any, get_type_hints

import pytest

pytest_plugins = ["seeding"]  # of tests/

TRACE = "torch.__trace"  # torch 2.13.0: its handlers decide whether traces are written
MORE_GRAPHS = 400
EXPORT = "_get_aten_graph_module_for_pattern"  # torchao 0.18.0
HINTS = "get_type_hints"  # torch 2.13.0: called by torch._export.serde.serialize


def pytest_configure() -> None:
    """Collect garbage after 50,000 allocations instead of 700; write no cache."""
    os.environ["QREG_CACHE"] = ""
    gc.set_threshold(50_000, 20, 100)


def pytest_collection_finish() -> None:
    """Exempt modules and tests, which stay, from the search for garbage; write no trace."""
    gc.freeze()
    logging.getLogger(TRACE).propagate = True  # an import of torch sets it to False


@pytest.fixture(scope="session")
def collected() -> Callable[[], None]:
    """Collects all garbage if there are many more graphs than after the last time."""
    from torch.fx import GraphModule

    kept = 0

    def collect() -> None:
        nonlocal kept
        if len(GraphModule.__subclasses__()) > kept + MORE_GRAPHS:
            gc.collect()
            kept = len(GraphModule.__subclasses__())

    return collect


@pytest.fixture(autouse=True)
def graphs_are_collected(collected: Callable[[], None]) -> Iterator[None]:
    """Leave few graphs of a test behind to the next one."""
    yield
    collected()


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
def traces_are_quick() -> Iterator[None]:
    """Describe no frame of pytest for each node of the programs that tests export themselves."""
    from qreg.graph.forward_frames import frames_of_forward

    with frames_of_forward():
        yield


@pytest.fixture(scope="session", autouse=True)
def files_are_quick() -> Iterator[None]:
    """Evaluate type hints once for each class, and let torch write programs without a check."""
    import typing

    from torch._export.serde import schema, serialize

    @functools.cache
    def hints(kind: type) -> dict[str, Any]:
        return get_type_hints(kind, globalns=vars(schema))

    once = {**vars(typing), HINTS: lambda kind, globalns: hints(kind)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serialize, "typing", SimpleNamespace(**once))
        patch.setattr(serialize, "canonicalize", lambda *_: None)  # torch 2.13.0: only checked
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
    import torch

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
