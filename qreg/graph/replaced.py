"""Attributes of torch that are replaced while blocks of code run, in any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from attrs import define, field


@define(eq=False)
class Replaced:
    """A context that replaces an attribute of ``owner`` until the last of its blocks ends.

    ``replacement`` makes the value from the original one.
    """

    owner: Any
    name: str
    replacement: Callable[[Any], Any]
    _lock: Any = field(factory=threading.Lock, init=False)
    _running: int = field(default=0, init=False)
    _original: Any = field(default=None, init=False)

    def __enter__(self) -> None:
        with self._lock:
            if not self._running:
                self._original = getattr(self.owner, self.name)
                setattr(self.owner, self.name, self.replacement(self._original))
            self._running += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                setattr(self.owner, self.name, self._original)
