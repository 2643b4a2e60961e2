"""The line of an error that its author wrote: that of a plugin, or of a user's module."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

HOST = str(Path(__file__).parents[1]) + os.sep
PLUGGY, FROZEN = f"{os.sep}pluggy{os.sep}", "<frozen "
PYTHON = os.path.dirname(os.__file__) + os.sep
INSTALLED = "site-packages"
# How the loaders of import hooks are called, which run the modules of others.
LOADING = "exec_module"


def own_line(error: BaseException) -> str | None:
    """Return ``FILE:LINE`` in the code that was called, or None if none was reached.

    That code begins at the first frame that is not of qreg, pluggy, Python or an import hook. Its
    last line counts, not that of a library that it calls. An error of syntax has the line of its
    text.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    first = next((at for at, frame in enumerate(frames) if not _calls(frame)), None)
    if first is None:
        return None
    file = frames[first].filename
    folder = os.path.dirname(file)
    alone = os.path.basename(folder) == INSTALLED  # a distribution of one file
    own = [
        each
        for each in frames[first:]
        if each.filename == file or (not alone and _is_in(each.filename, folder))
    ]
    return f"{own[-1].filename}:{own[-1].lineno}"


def short(error: BaseException) -> str:
    """Return the class of an error with its message, which attrs puts ahead of many values."""
    first, *others = error.args or ("",)
    if others and isinstance(first, str):
        return f"{type(error).__name__}({first!r})"
    return repr(error)


def place(error: BaseException) -> str:
    """Return ``", at FILE:LINE"`` for the end of a message, or an empty text."""
    line = own_line(error)
    return f", at {line}" if line else ""


def _calls(frame: traceback.FrameSummary) -> bool:
    file = frame.filename
    of_python = file.startswith(PYTHON) and INSTALLED not in file
    between = file.startswith((HOST, FROZEN)) or PLUGGY in file or frame.name == LOADING
    return of_python or between


def _is_in(file: str, folder: str) -> bool:
    return file.startswith(folder + os.sep) and INSTALLED not in file[len(folder) :]
