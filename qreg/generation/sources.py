"""What text is generated from: a result, a graph, or a program from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import torch
from attrs import frozen
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule

from qreg.errors import InputError
from qreg.generation.interface import interface_of
from qreg.graph.mutation import keeping_state, own_state
from qreg.inputs.specs import called, flat
from qreg.pipeline.result import Result
from qreg.plugins.blame import call
from qreg.plugins.types.interface import Interface
from qreg.plugins.types.program import Lowered
from qreg.programs.loading import read_lowered
from qreg.programs.lowering import Target
from qreg.verification.runner import run_once

Model: TypeAlias = Result | GraphModule | ExportedProgram | bytes | str | Path
Call: TypeAlias = "Callable[[tuple[Tensor, ...]], Sequence[Tensor]]"


@frozen
class Source:
    """The interface of a model, and a function that opens it.

    What ``opened`` returns yields a function that calls the model, whose cache is then as it was
    exported.
    """

    interface: Interface
    opened: Callable[[], AbstractContextManager[Call]]


def source_of(model: Model, target: Callable[[], Target]) -> Source:
    """Return a model as a source; ``target`` returns the backend of a program from a file.

    Raises ``InputError`` for another object, and for a file that is not a program of the backend.
    """
    if isinstance(model, Result):
        return Source(interface_of(model.reference), lambda: _of_result(model))
    if isinstance(model, ExportedProgram):
        graph = own_state(model.module(check_guards=False))
        return Source(interface_of(graph), lambda: _of_graph(graph))
    if isinstance(model, GraphModule):
        return Source(interface_of(model), lambda: _of_graph(model))
    if isinstance(model, (bytes, str, Path)):
        return _of_program(model, target())
    raise InputError(
        f"model: it is a {type(model).__name__} (expected a result of qreg.quantize, a graph of "
        "one, an ExportedProgram, or a program as bytes or a path). Quantize the model first."
    )


def _of_program(given: bytes | str | Path, target: Target) -> Source:
    program = given if isinstance(given, bytes) else read_lowered(target.supplied, Path(given))
    what = "program" if isinstance(given, bytes) else str(given)
    interfaces = target.backend.interfaces
    if interfaces is None:
        raise InputError(
            f"{what}: programs of backend {target.name!r} do not describe their inputs (expected a "
            "result of qreg.quantize). Quantize the model in this process."
        )
    try:
        found = call(target.supplied, "interfaces", interfaces, program, expected=Mapping)
    except InputError as error:
        raise InputError(f"{what}: {error}. Pass a program that was lowered for it.") from error
    (interface,) = found.values()
    return Source(interface, lambda: _running(target, Lowered(program, delegates=0)))


def _of_result(result: Result) -> AbstractContextManager[Call]:
    return _running(result.target, result.lowered)


@contextmanager
def _running(target: Target, lowered: Lowered) -> Iterator[Call]:
    runner = target.loader(lowered.program)
    yield lambda sample: run_once(runner, lowered, sample)


@contextmanager
def _of_graph(graph: GraphModule) -> Iterator[Call]:
    with torch.no_grad(), keeping_state(graph):
        yield lambda sample: flat(called(graph, sample))
