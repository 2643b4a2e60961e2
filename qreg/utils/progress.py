"""Progress display and timing of long stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from qreg.utils.logging import is_quiet, say

if TYPE_CHECKING:
    from rich.progress import Progress
    from typing_extensions import Self


class Stages:
    """The stages of one run, and the seconds each took.

    On a terminal each stage is a progress bar on standard error. Elsewhere each stage prints a line
    when it is done: to the handlers of the logger ``qreg``, or on standard error if it has none.
    Neither is shown if that logger has handlers and a level above INFO. ``show=True`` always shows
    bars, ``show=False`` shows nothing.
    """

    def __init__(self, show: bool | None = None) -> None:
        from rich.console import Console

        quiet = show is False or (show is None and is_quiet())
        self._console = Console(stderr=True, force_terminal=show or None, quiet=quiet)
        self._lines = not quiet and not self._console.is_terminal
        self._bars = _bars(self._console, disable=self._lines)
        self.seconds: dict[str, float] = {}

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
        """Time a stage, and yield a function to call after each of its ``total`` steps.

        ``total`` is None if it is not known. An interrupt (Ctrl-C) gets a message with the stage
        and the number of its completed steps.
        """
        task = self._bars.add_task(name, total=total)
        started, done = time.perf_counter(), 0

        def step() -> None:
            nonlocal done
            done += 1
            self._bars.advance(task)

        try:
            yield step
        except KeyboardInterrupt as interrupt:
            interrupt.args = (f"stopped in {name}{_after(done, total)}",)
            raise
        taken = time.perf_counter() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + taken
        self._bars.update(task, total=done or 1, completed=done or 1)
        if self._lines:
            say(f"{name}{_after(done, done or 1)}: {taken:.1f} s")


def _after(done: int, total: int | None) -> str:
    if total == 1:
        return ""
    return f" after {done} of {total or 'an unknown number'}"


def _bars(console: object, *, disable: bool) -> Progress:
    from rich import progress

    class Rate(progress.ProgressColumn):
        """Steps a second, for stages of several steps."""

        def render(self, task: progress.Task) -> str:
            return f"{task.speed:.1f}/s" if task.speed and task.total != 1 else ""

    return progress.Progress(
        "[progress.description]{task.description}",
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Rate(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=console,  # type: ignore[arg-type]
        disable=disable,
        transient=True,
    )
