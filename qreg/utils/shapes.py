"""Shapes in which None is a dynamic size."""

from __future__ import annotations

from collections.abc import Sequence


def fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Whether a shape has the wanted sizes."""
    return len(shape) == len(wanted) and all(
        size in (None, given) for size, given in zip(wanted, shape, strict=True)
    )


def spelled(shape: Sequence[int | None]) -> str:
    """Return a shape in torch's notation: ``(any, 8)`` for a dynamic size and 8."""
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    return f"({sizes}{',' if len(shape) == 1 else ''})"
