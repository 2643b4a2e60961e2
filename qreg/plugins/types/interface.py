"""What the methods of a lowered program take, return and keep, as read from the program."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen


@frozen
class Port:
    """A tensor that a method takes or returns: its name, and torch's name of its dtype.

    ``shape`` has the largest size of each dimension. ``dynamic`` is whether a size varies.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    dynamic: bool = False

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.shape))
        return f"{self.name} ({'at most ' if self.dynamic else ''}{sizes}) of {self.dtype}"


@frozen
class Interface:
    """The inputs and outputs of a method of a program, and its caches.

    ``caches`` has the number of positions in each buffer that the method writes to at positions
    which are a tensor, by what identifies the buffer in all methods: its name, or its address.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    caches: Mapping[str, int] = field(factory=dict)
