"""Which inputs and outputs of a program are integers, as its user asks, with their qparams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from attrs import evolve

from qreg.errors import ConfigError, InputError, UnknownNameError
from qreg.graph.boundary import (
    Boundary,
    QParams,
    float_readers,
    output_tensors,
    placeholders,
    quantizations,
)
from qreg.graph.nodes import called
from qreg.graph.operators import DEQUANTIZE
from qreg.graph.provenance import origin, producer
from qreg.inputs.program_signature import ProgramSignature, TensorInfo
from qreg.inputs.signature import Signature

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from qreg.plugins.types.backend import Backend
    from qreg.plugins.types.decision import Decision

IO: TypeAlias = str | Mapping[str, str]

Read: TypeAlias = "Callable[[str, Node, Mapping[str, Decision]], QParams]"

FLOAT, INT8 = "float", "int8"


class _FloatError(Exception):
    """Raised for a tensor that has no qparams, with the reason."""


def check_io(io: IO, backend: Backend, modes: Iterable[str]) -> None:
    """Raise for a request that cannot be met by any model, ahead of any work.

    Raises ``InputError`` for a value of another form, and ``ConfigError`` for a backend whose
    programs take float tensors, and for activations that are not static.
    """
    values = io.values() if isinstance(io, Mapping) else [io]
    for value in values:
        if value not in (FLOAT, INT8):
            raise InputError(
                f"io: {value!r} is not a kind of tensors (expected 'int8' or 'float', or a dict of "
                "these by the names in result.signature)"
            )
    if INT8 not in values:
        return
    if not backend.quantized_io:
        raise ConfigError(
            f"io: programs of backend {backend.name!r} take and give float tensors only (expected "
            "'float'). Omit io."
        )
    if not set(modes) & {"static"}:
        raise ConfigError(
            f"io: the config is {' and '.join(sorted(modes)) or 'float'}, so that no scale of an "
            "input or output is known ahead (expected a static one). Choose a static config, or "
            "omit io."
        )


def check_names(io: IO, signature: ProgramSignature) -> None:
    """Raise ``UnknownNameError`` for a name that no input or output of the model has."""
    known = [each.name for each in (*signature.inputs, *signature.outputs)]
    for name in io if isinstance(io, Mapping) else ():
        if name not in known:
            remedy = "Pass names of inputs and outputs, or int8 for all."
            raise UnknownNameError("input or output in io", name, known, remedy)


def boundary_of(
    io: IO, reference: GraphModule, converted: GraphModule, decisions: Sequence[Decision]
) -> Boundary:
    """Return the qparams of the inputs and outputs that are to be integers.

    ``"int8"`` stands for all that are floating-point tensors in the model. Raises ``InputError``
    for tensors that an operator computes or reads in float, with the operator and the reason for
    the first of them, and what can be asked for.
    """
    signature = ProgramSignature.of_graph(reference)
    wanted = _wanted(io, signature)
    reasons = {each.node: each for each in decisions}
    problems: dict[str, str] = {}

    def found(infos: Sequence[TensorInfo], nodes: Iterable[Node], read: Read) -> dict[int, QParams]:
        known = {}
        for number, (info, node) in enumerate(zip(infos, nodes, strict=True)):
            if info.name in wanted:
                try:
                    known[number] = read(info.name, node, reasons)
                except _FloatError as error:
                    problems[info.name] = str(error)
        return known

    inputs = found(signature.inputs, placeholders(converted.graph), _qparams_of_input)
    outputs = found(signature.outputs, output_tensors(converted.graph), _qparams_of_output)
    if problems:
        raise _refused(problems, [name for name in wanted if name not in problems])
    return Boundary(inputs, outputs)


def in_integers(signature: ProgramSignature, boundary: Boundary) -> ProgramSignature:
    """Return the signature of a program with the dtypes and the qparams of a boundary."""
    return ProgramSignature(
        _retyped(signature.inputs, boundary.inputs), _retyped(signature.outputs, boundary.outputs)
    )


def taking_integers(signature: Signature, boundary: Boundary) -> Signature:
    """Return the signature of a model with the dtypes that its program takes."""
    known = boundary.inputs
    return evolve(
        signature,
        specs=[
            evolve(spec, dtype=getattr(torch, known[number].dtype), quantized=True)
            if number in known
            else spec
            for number, spec in enumerate(signature.specs)
        ],
    )


def _retyped(infos: Sequence[TensorInfo], known: Mapping[int, QParams]) -> tuple[TensorInfo, ...]:
    return tuple(
        evolve(info, dtype=known[number].dtype, qparams=known[number]) if number in known else info
        for number, info in enumerate(infos)
    )


def _wanted(io: IO, signature: ProgramSignature) -> list[str]:
    if not isinstance(io, Mapping):
        infos = (*signature.inputs, *signature.outputs)
        return [each.name for each in infos if io == INT8 and each.dtype.startswith("float")]
    return [name for name, kind in io.items() if kind == INT8]


def _refused(problems: Mapping[str, str], left: Sequence[str]) -> InputError:
    first, *others = problems
    more = f" {', '.join(map(repr, others))} cannot be integers either." if others else ""
    remedy = f"Pass io={dict.fromkeys(left, INT8)}." if left else "Omit io."
    return InputError(f"io: {problems[first]}.{more} {remedy}")


def _qparams_of_input(name: str, node: Node, reasons: Mapping[str, Decision]) -> QParams:
    if readers := float_readers(node):
        raise _kept(f"input {name!r} is read", readers[0], reasons)
    found = quantizations(node)
    if not found:
        raise _FloatError(f"input {name!r} has no reader (expected one in int8)")
    if len(found) > 1:
        listed = "; ".join(sorted(map(str, found)))
        raise _FloatError(
            f"the readers of input {name!r} quantize it differently, with {listed} (expected "
            "equal scales and zero points)"
        )
    return found.pop()


def _qparams_of_output(name: str, node: Node, reasons: Mapping[str, Decision]) -> QParams:
    if called(node) != DEQUANTIZE:
        raise _kept(f"output {name!r} is computed", node, reasons)
    return QParams.of(node)


def _kept(what: str, node: Node, reasons: Mapping[str, Decision]) -> _FloatError:
    if node.op in ("output", "placeholder"):
        return _FloatError(f"{what} as it is, by no operator (expected one in int8)")
    operator = node if origin(node) else producer(node)
    decision = reasons.get(origin(operator) or operator.name)
    if decision is None:
        return _FloatError(f"{what} in float by {operator.name}")
    left = "the config leaves it in float there"
    why = left if decision.quantized else decision.reason
    return _FloatError(
        f"{what} in float by {decision.node} ({decision.operator}): {why} (expected an operator "
        "that is quantized there)"
    )
