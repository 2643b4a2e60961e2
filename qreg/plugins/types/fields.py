"""Converters and validators of the values that plugins return."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import validators

non_empty = validators.and_(validators.instance_of(str), validators.min_len(1))
is_callable: Any = validators.is_callable()


def strings(values: Iterable[str]) -> tuple[str, ...]:
    """Convert to a tuple; a lone string is an error, not its letters."""
    if isinstance(values, str):  # which is an iterable of strings too, of one letter each
        raise TypeError(f"{values!r} is one string (expected a tuple of them). Write ({values!r},)")
    found = tuple(values)
    for value in found:
        if not isinstance(value, str):
            raise TypeError(f"{value!r} is not a string. Write {str(value)!r}")
    return found
