"""With the shortcuts torch decomposes a program into the same one, with fewer steps."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn
from torch._export import utils
from torch._ops import OperatorBase
from torch.export import ExportedProgram, exported_program
from torch.fx import GraphModule, proxy, symbolic_trace, traceback

import qreg
from qreg import Registry
from qreg.programs.shortcuts import COLLECT, COLLECTING, COMMON, OVERRIDDEN, shortcuts

PATCHED = [(OperatorBase, "py_impl"), (traceback, "copy"), (GraphModule, "recompile")]
PATCHED += [(proxy, "CapturedTraceback")]
PATCHED += [(import_module(each), COLLECT) for each in COLLECTING]
KEYS = [(exported_program, name) for name in OVERRIDDEN]
LOOK_UP = "_materialize_cpp_cia_ops"  # called for each namespace
Counted = Callable[[Any, str], list[Any]]


@pytest.fixture(scope="module")
def program() -> ExportedProgram:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.GELU())
    return torch.export.export(model.eval(), (torch.randn(1, 3, 8, 8),))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Notes the first argument of each call of a function."""

    def count(owner: Any, name: str) -> list[Any]:
        calls: list[Any] = []
        original = getattr(owner, name)

        def noting(*arguments: Any, **named: Any) -> Any:
            calls.append((*arguments, None)[0])
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, noting)
        return calls

    return count


def described(program: ExportedProgram) -> list[Any]:
    """What each node computes, from which nodes of earlier graphs."""
    nodes = [
        (node.format_node(), str(node.meta.get("val")), past(node.meta.get("from_node", ())))
        for node in program.graph.nodes
    ]
    return [program.graph_signature, *nodes]


def past(sources: Iterable[traceback.NodeSource]) -> Any:
    """Sources without the number of their graph, which is an address."""
    return [(each.name, each.target, each.pass_name, past(each.from_node)) for each in sources]


def test_a_program_is_decomposed_into_the_same_one(program: ExportedProgram) -> None:
    plain = program.run_decompositions()
    with shortcuts():
        quick = program.run_decompositions()
        twice = quick.run_decompositions()
    assert described(quick) == described(plain)
    assert described(twice) == described(plain.run_decompositions())
    assert any(node.meta["from_node"][0].from_node for node in twice.graph.nodes if node.args)


def test_operators_registered_meanwhile_are_decomposed_too(program: ExportedProgram) -> None:
    with torch.library._scoped_library("qreg_shortcuts", "FRAGMENT") as library, shortcuts():
        program.run_decompositions()
        library.define("doubled(Tensor x) -> Tensor")
        library.impl("doubled", lambda x: x + x, "CompositeImplicitAutograd")

        class Doubled(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.ops.qreg_shortcuts.doubled(x)

        exported = torch.export.export(Doubled(), (torch.ones(2),))
        kept = exported.run_decompositions({})
        assert "qreg_shortcuts.doubled" in str(kept.graph)
        assert "aten.add" in str(exported.run_decompositions().graph)


def test_torch_is_as_before_once_the_last_lowering_has_ended() -> None:
    before = [vars(owner)[name] for owner, name in PATCHED]
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with shortcuts():
            inside.set()
            leave.wait()

    def fail() -> None:
        thread.start()
        inside.wait()
        raise RuntimeError("no")

    thread = threading.Thread(target=other)
    with pytest.raises(RuntimeError, match="no"), shortcuts():
        fail()
    assert [vars(owner)[name] for owner, name in PATCHED] != before
    leave.set()
    thread.join()
    assert [vars(owner)[name] for owner, name in PATCHED] == before


def test_torch_still_does_what_is_cut_short(program: ExportedProgram, counted: Counted) -> None:
    registered, looked_up = counted(OperatorBase, "py_impl"), counted(utils, LOOK_UP)
    copied = counted(traceback.copy, "deepcopy")
    program.run_decompositions().run_decompositions()
    assert len(registered) > 1000
    assert len(looked_up) > 20
    assert any(isinstance(each, list) and each for each in copied)


def test_operators_are_collected_once_while_none_is_added(
    program: ExportedProgram, counted: Counted
) -> None:
    looked_up = counted(utils, LOOK_UP)
    plain = [getattr(import_module(each), COLLECT)() for each in COLLECTING]
    namespaces = len(looked_up) // len(plain)
    assert namespaces > 5
    with shortcuts():
        quick = [getattr(import_module(each), COLLECT)() for each in COLLECTING]
        program.run_decompositions().run_decompositions()
    assert quick == plain
    assert len(looked_up) < namespaces * (len(plain) + 3)  # once, and for what decomposing imports
    looked_up.clear()
    with shortcuts():
        assert [getattr(import_module(each), COLLECT)() for each in COLLECTING] == plain
    assert looked_up == []  # nor for the next lowering


def test_an_operator_decomposed_in_python_between_lowerings_is_collected() -> None:
    with torch.library._scoped_library("qreg_shortcuts", "FRAGMENT") as library:
        library.define("halved(Tensor x) -> Tensor")
        library.impl("halved", lambda x: x / 2, "CompositeExplicitAutograd")
        operator = torch.ops.qreg_shortcuts.halved.default
        with shortcuts():
            assert operator not in getattr(utils, COLLECT)()
        operator.py_impl(torch._C.DispatchKey.CompositeImplicitAutograd)(lambda x: x / 2)
        assert operator in getattr(utils, COLLECT)()
        with shortcuts():
            assert operator in getattr(utils, COLLECT)()


@pytest.mark.parametrize("accelerator", [None, torch.device("cuda")])
def test_kernels_are_for_the_devices_of_the_machine(
    accelerator: torch.device | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: accelerator)
    before = [{key.name for key in getattr(*each)} for each in KEYS]
    assert set.union(*before) > COMMON
    assert all(COMMON & keys < keys for keys in before)
    with shortcuts():
        found = [{key.name for key in getattr(*each)} for each in KEYS]
    assert found == (before if accelerator else [COMMON & keys for keys in before])
    assert [{key.name for key in getattr(*each)} for each in KEYS] == before


def test_kernels_are_registered_as_torch_does() -> None:
    operator, key = torch.ops.aten.relu.default, torch._C.DispatchKey.IPU
    before = dict(operator.py_kernels)
    with shortcuts():
        try:
            kernel = operator.py_impl(key)(lambda x: x)
            assert operator.py_kernels[key] is kernel
            with pytest.raises(RuntimeError, match="Trying to override a python impl"):
                operator.py_impl(key)(lambda x: x)
            with pytest.raises(AssertionError, match=r"DispatchKey\.Python"):
                operator.py_impl(torch._C.DispatchKey.Python)(lambda x: x)
            with pytest.raises(AssertionError, match="expected DispatchKey"):
                operator.py_impl("CPU")(lambda x: x)
        finally:
            operator.py_kernels.pop(key, None)
            operator._dispatch_cache.clear()
    assert operator.py_kernels == before


@pytest.fixture
def traced() -> GraphModule:
    return symbolic_trace(nn.Sequential(nn.ReLU(), nn.Tanh()))


def changed(module: GraphModule) -> None:
    """Return the input of the second operator instead of its output."""
    (output,) = module.graph.find_nodes(op="output")
    output.args = output.args[0].args
    module.recompile()


def test_a_changed_graph_is_compiled_when_it_is_called(traced: GraphModule) -> None:
    x = torch.randn(4)
    with shortcuts():
        changed(traced)
        assert "_code" not in vars(traced)
        assert torch.equal(traced(x), x.relu())
        assert "_code" in vars(traced)


@pytest.mark.parametrize("read", [lambda each: each.code, str, lambda each: each._code])
def test_code_that_is_read_is_that_of_the_changed_graph(
    traced: GraphModule, read: Callable[[GraphModule], str]
) -> None:
    with shortcuts():
        changed(traced)
        assert "return _0" in read(traced)
    assert "tanh" not in read(traced)


def test_modules_stay_whole_once_the_lowering_has_ended(traced: GraphModule) -> None:
    x = torch.randn(4)
    with shortcuts():
        changed(traced)
        duplicate = copy.deepcopy(traced)
    assert torch.equal(pickle.loads(pickle.dumps(traced))(x), x.relu())
    assert torch.equal(duplicate(x), x.relu())
    traced.recompile()
    assert torch.equal(traced(x), x.relu())
    changed(duplicate)
    assert torch.equal(duplicate(x), x)


def test_modules_of_which_nothing_was_used_are_traced_as_they_are(traced: GraphModule) -> None:
    x = torch.randn(4)
    with shortcuts():
        changed(traced)
    assert "tanh" not in symbolic_trace(traced).code
    with shortcuts():
        changed(traced)
    compiled = torch.compile(traced, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), x)


def test_a_module_of_a_derived_class_can_be_pickled(traced: GraphModule) -> None:
    x = torch.randn(4)
    with shortcuts():
        changed(traced)
    traced.__class__ = type("Derived", (type(traced),), {})
    assert torch.equal(pickle.loads(pickle.dumps(traced))(x), x.relu())


def test_graph_modules_are_still_recompiled_and_hardly_called(
    program: ExportedProgram, counted: Counted
) -> None:
    recompiled = counted(GraphModule, "recompile")
    program.run_decompositions()
    plain = len(recompiled)
    with shortcuts():
        program.run_decompositions()
    assert len(recompiled) - plain < plain / 3


@pytest.fixture
def _nothing_is_exempt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As for users; the tests have exempted their modules (``conftest.py``)."""
    monkeypatch.setattr(import_module("qreg.programs.shortcuts"), "_exempted", False)
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.mark.usefixtures("_nothing_is_exempt")
def test_what_exists_is_exempt_from_the_search_for_garbage_until_the_lowering_ends() -> None:
    assert gc.get_freeze_count() == 0
    with shortcuts():
        assert gc.get_freeze_count() > 100_000
        with shortcuts():
            pass
        assert gc.get_freeze_count() > 100_000
    assert gc.get_freeze_count() == 0


@pytest.mark.usefixtures("_nothing_is_exempt")
def test_what_a_program_has_exempted_stays_so_and_is_counted_once(counted: Counted) -> None:
    gc.freeze()
    count = gc.get_freeze_count
    frozen, counts = count(), counted(gc, "get_freeze_count")
    created: list[list[int]] = [[] for _ in range(1000)]
    for _ in range(2):
        with shortcuts():
            assert 0 < count() <= frozen  # less what is deleted meanwhile
        assert 0 < count() <= frozen
    assert len(created) == 1000
    assert len(counts) == 1


def test_explain_decides_alike_with_and_without_them(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Tanh()).eval(), torch.randn(2, 4)
    found = qreg.explain(model, x, backend="toy", registry=registry, progress=False)
    monkeypatch.setattr(import_module("qreg.pipeline.explain"), "shortcuts", nullcontext)
    for each in ("qreg.pipeline.prepare", "qreg.programs.export"):
        monkeypatch.setattr(import_module(each), "recompiled_when_used", nullcontext)
    wanted = qreg.explain(model, x, backend="toy", registry=registry, progress=False)
    assert found.operators == wanted.operators
