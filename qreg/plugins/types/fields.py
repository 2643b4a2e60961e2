"""Converters and validators of the values that plugins return."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import validators

_name = validators.and_(validators.instance_of(str), validators.min_len(1))
_callable: Any = validators.is_callable()


def _strings(values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):  # which is an iterable of strings too, of one letter each
        raise TypeError(f"{values!r} is one string (expected a tuple of them). Write ({values!r},)")
    found = tuple(values)
    for value in found:
        if not isinstance(value, str):
            raise TypeError(f"{value!r} is not a string. Write {str(value)!r}")
    return found
