"""The log of a command on standard error: how much of it is shown, and in which words."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click

from qreg.cli.remedies import as_options
from qreg.plugins.manager import PluginWarning
from qreg.utils.logging import LOG, quiet_imports


class ToTerminal(logging.Handler):
    """Print records on standard error; those of warnings begin with the word."""

    def emit(self, record: logging.LogRecord) -> None:
        word = "Warning: " if record.levelno == logging.WARNING else ""
        click.echo(word + record.getMessage(), err=True)


class OfOthers(logging.Handler):
    """Log what other libraries log: errors as errors, the rest for debugging."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] != LOG.name:
            level = logging.ERROR if record.levelno >= logging.ERROR else logging.DEBUG
            LOG.log(level, "%s: %s", record.name, record.getMessage())


@contextmanager
def logged(level: int) -> Iterator[None]:
    """Show the log from a level on, and the warnings of Python in it, for the time of a command.

    Those of qreg are warnings, in one line each. Those of other libraries, and what they log below
    the level of errors, are for debugging.
    """
    handler, others, before = ToTerminal(), OfOthers(), LOG.level
    if level > logging.DEBUG:
        quiet_imports()
    LOG.addHandler(handler)
    logging.getLogger().addHandler(others)
    LOG.setLevel(level)
    with warnings.catch_warnings():
        warnings.simplefilter("always", PluginWarning)
        warnings.showwarning = _shown
        try:
            yield
        finally:
            LOG.removeHandler(handler)
            logging.getLogger().removeHandler(others)
            LOG.setLevel(before)


def _shown(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if category.__module__.partition(".")[0] == "qreg":
        LOG.warning("%s", as_options(str(message)))
    else:
        LOG.debug("%s: %s (%s:%s)", category.__name__, message, filename, lineno)
