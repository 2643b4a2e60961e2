"""Report errors and warnings of commands, worded for the command line, with an exit code."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TextIO

import click

from qreg.cli.remedies import as_options
from qreg.plugins.registry import Registry

INTERRUPTED = 130  # 128 + SIGINT, the convention of shells


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors that qreg raises on purpose, and Ctrl-C, into a message and an exit code."""

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        from qreg.errors import QregError, QualityWarning

        try:
            command(*arguments, **options)
        except (QregError, QualityWarning) as error:
            raise click.ClickException(as_options(str(error))) from error
        except KeyboardInterrupt as interrupt:
            click.echo(f"{interrupt or 'stopped'}; nothing was written", err=True)
            raise SystemExit(INTERRUPTED) from interrupt

    return wrapped


def current_registry() -> Registry:
    """Return the registry of the running command."""
    registry: Registry = click.get_current_context().obj
    return registry


@contextmanager
def judging(strict: bool) -> Iterator[None]:
    """Print warnings for users to standard error; if ``strict``, raise quality warnings instead."""
    from qreg.errors import QualityWarning, TargetMissedWarning, UnknownOperatorWarning

    raises = strict or current_registry().switches.strict
    with warnings.catch_warnings():
        warnings.simplefilter("error" if raises else "always", QualityWarning)
        for kind in (TargetMissedWarning, UnknownOperatorWarning):
            warnings.simplefilter("always", kind)
        show = warnings.showwarning

        def shown(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, (QualityWarning, TargetMissedWarning, UnknownOperatorWarning)):
                click.echo(f"Warning: {as_options(str(message))}", err=True)
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = shown
        yield
