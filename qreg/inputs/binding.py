"""Bind example inputs to the ``forward`` of a module, as torch.export expects them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from inspect import Parameter
from typing import Any

import torch

from qreg.errors import InputError, near
from qreg.inputs.signature import MisfitError, Signature, is_pair
from qreg.inputs.specs import arguments, keywords, split

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def bound(model: torch.nn.Module, example_inputs: Any) -> Arguments:
    """Return example inputs as ``(args, kwargs)`` for the ``forward`` of a module.

    They are a dict of arguments by name, a pair ``(args, kwargs)``, a tuple or list of arguments,
    or a lone argument. A pair that ``forward`` does not accept as such is a tuple of two arguments.
    Arguments that may be positional are returned in the order of ``forward``.

    Raises ``InputError`` for names that ``forward`` does not take, and for missing ones.
    """
    if isinstance(model, torch.fx.GraphModule) and keywords(model):
        return _of_graph(model, example_inputs)
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # forward is not written in Python
        return _forms(example_inputs)[0]
    forms = _forms(example_inputs)
    for args, kwargs in forms:
        try:
            found = signature.bind(*args, **kwargs)
        except TypeError:
            continue
        for name, value in [*found.arguments.items()]:
            if value is None and signature.parameters[name].default is None:
                del found.arguments[name]  # None is not an input of a program
        return found.args, found.kwargs
    raise InputError(f"example_inputs: {_misfit(type(model).__name__, signature, *forms[0])}")


def _of_graph(model: torch.fx.GraphModule, example_inputs: Any) -> Arguments:
    signature = Signature.of_graph(model)
    try:
        leaves = signature.leaves(example_inputs)
    except MisfitError as error:
        raise InputError(f"example_inputs: {error.problem}.") from error
    return split(model, signature.positional(leaves))


def _forms(example: Any) -> list[Arguments]:
    """Return what example inputs may mean, the likeliest first."""
    if isinstance(example, Mapping):
        return [((), dict(example))]
    values = arguments(example)
    plain: Arguments = (values, {})
    return [(tuple(values[0]), dict(values[1])), plain] if is_pair(values) else [plain]


def _misfit(
    name: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    parameters = signature.parameters
    expected = ", ".join(each for each, p in parameters.items() if p.kind not in VARIABLE)
    for each in kwargs:
        if each not in parameters:
            return (
                f"{name}.forward has no argument {each!r} (expected {expected or 'none'})."
                f"{_guess(each, parameters)} {_for_one(parameters)}"
            ).rstrip()
    positional = [p for p in parameters.values() if p.kind in POSITIONAL]
    if len(args) > len(positional):
        return (
            f"{len(args)} positional inputs (expected {len(positional)} for {name}.forward: "
            f"{expected or 'none'}). Leave out what the model does not take, such as labels; give "
            "keyword-only arguments by name, in a dict."
        )
    given = {*(p.name for p in positional[: len(args)]), *kwargs}
    missing = [each for each in _required(parameters) if each not in given]
    if missing:
        return (
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing (expected "
            f"{expected} for {name}.forward). Add what is missing, in a dict by name or in order."
        )
    return f"an argument of {name}.forward is given twice (expected {expected}, once each)."


VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def _required(parameters: Mapping[str, Parameter]) -> list[str]:
    return [
        name
        for name, each in parameters.items()
        if each.default is Parameter.empty and each.kind not in VARIABLE
    ]


def _guess(name: str, known: Mapping[str, Parameter]) -> str:
    guesses = " or ".join(map(repr, near(name, known)))
    return f" Did you mean {guesses}?" if guesses else ""


def _for_one(parameters: Mapping[str, Parameter]) -> str:
    if len(parameters) != 1:
        return ""
    return "If the dict is the argument itself, pass a tuple of it: (inputs,)."
