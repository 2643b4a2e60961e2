"""The line of an error that its author wrote: that of a plugin, or of a user's module."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

CALLERS = (str(Path(__file__).parents[1]) + os.sep, os.sep + "pluggy" + os.sep, "<frozen ")
IMPORTS = os.sep + "importlib" + os.sep


def own_line(error: BaseException) -> str | None:
    """Return ``FILE:LINE`` in the code that was called, or None if none was reached.

    That code begins at the first frame that is not of qreg, pluggy or an import. Its last line
    counts, not that of a library that it calls. An error of syntax has the line of its text.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    files = [each.filename for each in frames]
    first = next((at for at, file in enumerate(files) if not _calls(file)), None)
    if first is None:
        return None
    folder = os.path.dirname(files[first])
    alone = os.path.basename(folder) == "site-packages"  # a distribution of one file
    own = [
        each
        for each in frames[first:]
        if each.filename == files[first] or (not alone and _is_in(each.filename, folder))
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


def _calls(file: str) -> bool:
    return file.startswith((CALLERS[0], CALLERS[2])) or CALLERS[1] in file or IMPORTS in file


def _is_in(file: str, folder: str) -> bool:
    return file.startswith(folder + os.sep) and "site-packages" not in file[len(folder) :]
