"""Import a function that a command names as ``module:function``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qreg.errors import InputError, near


def imported(name: str, option: str) -> Callable[..., Any]:
    """Return the function of that name; modules of the current folder come first.

    Importing a module runs its code. Raises ``InputError`` for a name of another form, a module
    that cannot be imported, and a name that is missing or no function.
    """
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        raise InputError(f"{option} {name!r}: no function is named (expected MODULE:FUNCTION)")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as cause:  # whatever the code of the module raises
        raise InputError(
            f"{option} {name!r}: module {module!r} cannot be imported: "
            f"{type(cause).__name__}: {cause} (expected one in the current folder, or installed)"
        ) from cause
    for part in attribute.split("."):
        if not hasattr(found, part):
            guesses = near(part, vars(found)) if hasattr(found, "__dict__") else []
            guess = f" Did you mean {' or '.join(map(repr, guesses))}?" if guesses else ""
            raise InputError(f"{option} {name!r}: {module!r} has no {part!r}.{guess}")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{option} {name!r}: it is {found!r}, not a function")
    function: Callable[..., Any] = found
    return function
