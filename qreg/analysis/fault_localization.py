"""Name the operator that a failed program goes wrong at, and what keeps it in float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qreg.analysis.bisection import Found, Search, suspect
from qreg.analysis.choices import choice_ahead_of, compared_by
from qreg.analysis.interpreter import first_nan
from qreg.errors import (
    CrashError,
    HangError,
    LoadError,
    LoweringError,
    NaNError,
    ProgramError,
    RunError,
    UnsupportedOperatorError,
    keeping_in_float,
)
from qreg.graph.provenance import module_path, origin
from qreg.verification.remedies import calls_of, scopes_of

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from qreg.plugins.types.decision import Decision

FAILS_IN_FLOAT = (
    "The float model fails in this backend too, so no scope helps. Change the model at or just "
    "upstream of it."
)


def name_suspect(
    error: ProgramError,
    converted: GraphModule,
    decisions: Sequence[Decision],
    samples: Sequence[tuple[Any, ...]],
    search: Search,
    reference: GraphModule | None = None,
) -> ProgramError:
    """Return the error, with the operator at which it starts if one is found.

    ``reference`` is the float graph: if it fails too, no scope helps, and none is offered.
    Skip the search if the backend has named operators itself, and if parts of the program might
    hang this process, or end it, as the program did.
    """
    if isinstance(error, (UnsupportedOperatorError, HangError, CrashError)):
        return error
    if isinstance(error, LoweringError) and _remedy(error.suspects, decisions):
        return _kept_in_float(error, error.suspects, decisions)
    for sample in samples if isinstance(error, NaNError) else ():
        name = first_nan(converted, sample)
        if name is not None:
            described = f"{name}, the first to return NaN in the converted model"
            return _kept_in_float(error, [name], decisions, described)
    found = suspect(converted, decisions, samples, search)
    if not found.operators:
        return error
    if found.stopped:
        return error.suspecting(_among(found, search))
    names = list(dict.fromkeys(str(origin(node)) for node in found.operators))
    # An operator that is in float already may be the cause: then no setting would help.
    floats = {each.node for each in decisions if not each.quantized}
    described = f"{_described(found.operators)}, {_first(error)}"
    if reference is not None and not search.works(reference, samples):
        return error.suspecting(described, remedy=FAILS_IN_FLOAT)
    fails = isinstance(error, (LoweringError, LoadError, RunError))
    choice = None if fails or floats.isdisjoint(names) else choice_ahead_of(found.operators)
    if choice is not None:
        own = {each.node for each in decisions if each.status == "annotated"}
        described = f"{_described(found.operators)}, {_chosen(choice)}"
        return _kept_in_float(error, compared_by(choice, own), decisions, described)
    helped = names if floats.isdisjoint(names) else []
    return _kept_in_float(error, helped, decisions, described)


def _kept_in_float(
    error: ProgramError, names: Sequence[str], decisions: Sequence[Decision], *suspects: str
) -> ProgramError:
    """Return the error with the remedy to keep the patterns of some operators in float."""
    named = error.suspecting(*suspects, remedy=_remedy(names, decisions))
    named.calls = calls_of(names, decisions)
    return named


def _remedy(names: Sequence[str], decisions: Sequence[Decision]) -> str:
    return keeping_in_float(scopes_of(names, decisions))


def _described(nodes: Sequence[Node]) -> str:
    return " and ".join(f"{origin(node)} ({node.target}{_place(node)})" for node in nodes)


def _chosen(choice: Node) -> str:
    return (
        f"which reads what {origin(choice)} ({choice.target}{_place(choice)}) chooses: between "
        "equal values, as int8 has many, it does not choose like torch"
    )


def _first(error: ProgramError) -> str:
    """Describe the operator that was found: where the program fails, or has other values."""
    if isinstance(error, LoweringError):
        return "the first with which the lowering fails"
    if isinstance(error, (LoadError, RunError)):
        return "the first with which the program fails"
    return "the first that the backend computes incorrectly"


def _among(found: Found, search: Search) -> str:
    """Describe where the operator is, for a search that its budget has stopped."""
    first, last = (str(origin(found.operators[place])) for place in (0, -1))
    return (
        f"one of the {len(found.operators)} operators from {first} to {last} (the search stopped "
        f"after lowering {search.lowered} parts of the model in {search.taken:.0f} s)"
    )


def _place(node: Node) -> str:
    path = module_path(node)
    return f" in module {path!r}" if path else ""
