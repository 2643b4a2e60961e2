"""Report errors and warnings of commands, worded for the command line, with an exit code."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from traceback import format_exception
from typing import Any

import click

from qreg.cli.remedies import as_options
from qreg.plugins.registry import Registry
from qreg.utils.logging import LOG

INTERRUPTED = 130  # 128 + SIGINT, the convention of shells


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors that qreg raises on purpose, and Ctrl-C, into a message and an exit code."""

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        from qreg.errors import QregError, QualityWarning

        try:
            command(*arguments, **options)
        except (QregError, QualityWarning) as error:
            if click.get_current_context().find_root().params.get("trace"):
                LOG.error("%s", "".join(format_exception(error)).rstrip())
            raise click.ClickException(as_options(str(error))) from error
        except KeyboardInterrupt as interrupt:
            work = options.get("work")
            kept = f"what is finished is in {work}" if work else "nothing was written"
            click.echo(f"{interrupt or 'stopped'}; {kept}", err=True)
            raise SystemExit(INTERRUPTED) from interrupt

    return wrapped


def current_registry() -> Registry:
    """Return the registry of the running command."""
    registry: Registry = click.get_current_context().obj
    return registry


@contextmanager
def judging(strict: bool) -> Iterator[None]:
    """Show each warning for users; if ``strict``, raise quality warnings instead."""
    from qreg.errors import QualityWarning, TargetMissedWarning, UnknownOperatorWarning

    raises = strict or current_registry().switches.strict
    with warnings.catch_warnings():
        warnings.simplefilter("error" if raises else "always", QualityWarning)
        for kind in (TargetMissedWarning, UnknownOperatorWarning):
            warnings.simplefilter("always", kind)
        yield
