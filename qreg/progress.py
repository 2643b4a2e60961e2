"""Shows the long stages on a terminal, and times them everywhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Stages:
    """The stages of one run: a progress bar for each, and the seconds each took.

    ``show`` None shows them if standard error is a terminal.
    """

    def __init__(self, show: bool | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

        console = Console(stderr=True, force_terminal=show or None)
        self.seconds: dict[str, float] = {}
        self._bars = Progress(
            "[progress.description]{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not (console.is_terminal if show is None else show),
            transient=True,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, name: str, total: int | None = 1) -> Iterator[Callable[[], None]]:
        """One stage; call what it yields for each of ``total`` steps, None where nobody knows."""
        task = self._bars.add_task(name, total=total)
        started = time.perf_counter()
        yield lambda: self._bars.advance(task)
        self.seconds[name] = time.perf_counter() - started
        self._bars.update(task, total=1, completed=1)
