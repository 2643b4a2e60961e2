"""What text is generated from: a result, a graph, or a program from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
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
from qreg.programs.copying import module_of
from qreg.programs.loading import read_lowered
from qreg.programs.lowering import Target
from qreg.utils.wording import a_type
from qreg.verification.runner import run_once

One: TypeAlias = Result | GraphModule | ExportedProgram | bytes | str | Path
Model: TypeAlias = One | Mapping[str, Result]
Call: TypeAlias = "Callable[[tuple[Tensor, ...]], Sequence[Tensor]]"
Calls: TypeAlias = "Mapping[str, Call]"
ONLY = "forward"  # the method of a model with one


@frozen
class Source:
    """The interfaces of the methods of a model by name, and a function that opens it.

    What ``opened`` returns yields a function that calls each method. The cache, which they share,
    is then as it was exported. ``simulated`` is whether the times of calls have no meaning.
    """

    interfaces: Mapping[str, Interface]
    opened: Callable[[], AbstractContextManager[Calls]]
    simulated: bool = False


def source_of(model: Model, target: Callable[[], Target]) -> Source:
    """Return a model as a source; ``target`` returns the backend of a program from a file.

    Raises ``InputError`` for another object, and for a file that is not a program of the backend.
    """
    if isinstance(model, Result):
        return _of_results({model.target.method or ONLY: model})
    if isinstance(model, ExportedProgram):
        model = own_state(module_of(model))
    if isinstance(model, GraphModule):
        graph = model
        return Source({ONLY: interface_of(graph)}, lambda: _of_graph(graph))
    if isinstance(model, (bytes, str, Path)):
        return _of_program(model, target())
    if isinstance(model, Mapping):
        return _of_results(model)
    raise InputError(
        f"model: it is {a_type(model)} (expected a result of qreg.quantize, a graph of "
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
    parts = {name: Lowered(program, delegates=0) for name in found}
    return Source(found, lambda: _running(target, parts), target.backend.simulated)


def _of_results(results: Mapping[str, Result]) -> Source:
    """Return the methods of a program that results share, or the one of a result."""
    each_is_one = all(isinstance(each, Result) for each in results.values())
    if not each_is_one or len({each.program for each in results.values()}) != 1:
        raise InputError(
            "model: it is a dict of other values than results with one program (expected what "
            "qreg.combine returns). Combine the results of the methods."
        )
    target = next(iter(results.values())).target
    interfaces = {name: interface_of(each.reference) for name, each in results.items()}
    parts = {name: each.lowered for name, each in results.items()}
    return Source(interfaces, lambda: _running(target, parts), target.backend.simulated)


@contextmanager
def _running(target: Target, parts: Mapping[str, Lowered]) -> Iterator[Calls]:
    """Load the program that is in each of its parts, and yield a function for each part."""
    program = next(iter(parts.values())).program
    runners = target.loader.methods(program)
    yield {name: partial(run_once, runners[name], part) for name, part in parts.items()}


@contextmanager
def _of_graph(graph: GraphModule) -> Iterator[Calls]:
    with torch.no_grad(), keeping_state(graph):
        yield {ONLY: lambda sample: flat(called(graph, sample))}
