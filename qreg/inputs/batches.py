"""Read the batches of a user: transform them, check them, and order their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from operator import length_hint
from typing import Any

from qreg.errors import CalibrationError, InputError
from qreg.inputs.arrays import as_tensor
from qreg.inputs.signature import MisfitError, Signature
from qreg.utils.wording import a_type

BATCH = "calibration batch"
TRANSFORM = ": pass transform=lambda batch: {keep}"  # the way to remove a part of each batch
NO_BATCH = (
    "calibration: no batch (expected at least one). Pass a list: an iterator that was read before "
    "has none left."
)
BY_HAND = ""  # for functions without transform=

Transform = Callable[[Any], Any]


def checked(
    batches: Iterable[Any], signature: Signature, what: str = BATCH
) -> Iterator[tuple[Any, ...]]:
    """Return the batches as arguments of the model, each checked before it is returned.

    The forms of a batch are those of :meth:`Signature.leaves`; ``what`` is what errors call it.

    Raises ``CalibrationError`` with the input and the reason if a batch does not fit.
    """
    for number, batch in enumerate(batches):
        try:
            found = placed(batch, signature, what, number)
        except CalibrationError:
            if not number:
                _check_not_one(batches, signature, what)
            raise
        yield found


def _check_not_one(batches: Iterable[Any], signature: Signature, what: str) -> None:
    """Raise ``CalibrationError`` for data that are one batch, where its items are none."""
    if isinstance(batches, Iterator):
        return
    try:
        placed(batches, signature, what)
    except InputError:
        return
    raise CalibrationError(f"{what}es: they are one batch (expected a list of them). Pass [batch].")


def kept(
    batches: Iterable[Any],
    signature: Signature,
    max_batches: int | None = None,
    transform: Transform | None = None,
) -> list[tuple[Any, ...]]:
    """Return all batches, at most ``max_batches``, in memory.

    Raises as :func:`checked`, and ``CalibrationError`` for data without a batch.
    """
    found = list(checked(transformed(capped(batches, max_batches), transform), signature))
    if not found:
        raise CalibrationError(NO_BATCH)
    return found


def placed(
    batch: Any,
    signature: Signature,
    what: str,
    number: int | None = None,
    remedy: str = TRANSFORM,
) -> tuple[Any, ...]:
    """Return a batch as positional arguments of the model, with numpy arrays as tensors.

    ``remedy`` is for a batch that holds more than the model takes. Raises as :func:`checked`.
    """
    try:
        leaves = signature.leaves(batch)
    except MisfitError as error:
        raise _misfit(_with_remedy(error, remedy), what, number) from error
    for spec, leaf in zip(signature.specs, leaves, strict=True):
        problem = spec.misfit(leaf)
        if problem:
            raise _misfit(problem, what, number, spec.name)
    return signature.positional([as_tensor(leaf) for leaf in leaves])


def called_with(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Return the arguments of a call as a batch; a lone dict holds the arguments by name."""
    if named:
        return inputs, named
    return inputs[0] if len(inputs) == 1 and isinstance(inputs[0], Mapping) else inputs


def _with_remedy(error: MisfitError, remedy: str) -> str:
    if error.part is None:
        return f"{error.problem}."
    way = remedy.format(keep=error.part.keep)
    rest = f"{error.part.rest}, which the model was not exported with, such as labels"
    return f"{error.problem}. Remove {rest}{way}."


def _misfit(problem: str, what: str, number: int | None, name: str | None = None) -> InputError:
    if number is not None:
        return CalibrationError(problem, number, name, what)
    which = "" if name is None else f"input {name!r}: "
    return CalibrationError(f"{what}: {which}{problem}", input=None)


def check_batches(batches: object, what: str = "calibration") -> None:
    """Raise ``InputError`` for an object that is not an iterable of batches, or is one batch."""
    if isinstance(batches, Mapping):
        remedy = "Pass a list of it, [batch]."
    elif not isinstance(batches, Iterable) and callable(batches):
        remedy = "Call it, and pass what it returns."
    elif isinstance(batches, (str, bytes)) or not _is_iterable(batches):
        remedy = "Pass a list of batches, a generator or a DataLoader."
    else:
        return
    raise InputError(f"{what}: it is {a_type(batches)} (expected an iterable of batches). {remedy}")


def _is_iterable(value: object) -> bool:
    """Whether ``for`` accepts a value; a Dataset of torch only has items by number."""
    return isinstance(value, Iterable) or hasattr(value, "__getitem__")


def transformed(batches: Iterable[Any], transform: Transform | None) -> Iterable[Any]:
    """Return the batches as ``transform`` returns them, each when it is read; None: as they are.

    Raises ``InputError`` if ``transform`` cannot be called, or returns None.
    """
    if transform is None:
        return batches
    if not callable(transform):
        raise InputError(
            f"transform: {transform!r} is not a function (expected one that returns the inputs of "
            "a batch). Pass a function, such as lambda batch: batch[0]."
        )
    return _mapped(batches, transform)


def _mapped(batches: Iterable[Any], transform: Transform) -> Iterator[Any]:
    for number, batch in enumerate(batches):
        inputs = transform(batch)
        if inputs is None:
            raise InputError(
                f"transform: it returned None for batch {number} (expected the inputs of the "
                "model). Return them at the end of the function."
            )
        yield inputs


def capped(batches: Iterable[Any], most: int | None) -> Iterable[Any]:
    """Return the first ``most`` batches, or all; no further batch is read.

    Raises ``InputError`` if ``most`` is less than 1.
    """
    if most is None:
        return batches
    if not isinstance(most, int):
        raise InputError(
            f"max_batches: {most!r} is not an integer (expected a number of batches). "
            "Omit it to use all batches."
        )
    if most < 1:
        raise InputError(f"max_batches is {most}: it must be at least 1")
    return islice(batches, most)


def length(batches: Iterable[Any], most: int | None) -> int | None:
    """Return the number of batches in ``capped``, or None if it is not known without reading."""
    known = [each for each in (length_hint(batches, -1), most) if each is not None and each >= 0]
    return min(known, default=None)
