"""Import what a command names as ``module:name`` or ``file.py:name``, which runs its code."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from qreg.errors import InputError, near
from qreg.utils.traces import place


def is_code(text: str) -> bool:
    """Whether a text names something in a module, and not a file."""
    module, colon, name = text.rpartition(":")
    named = all(part.isidentifier() for part in name.split("."))
    return bool(colon and module) and named and not Path(text).exists()


def imported(name: str, option: str) -> Callable[..., Any]:
    """Return the function of that name. Raises as :func:`found`, and for other values."""
    function = found(name, option, "FUNCTION")
    if not callable(function):
        raise InputError(f"{option} {name!r}: it is {function!r}, not a function")
    callable_: Callable[..., Any] = function
    return callable_


def found(name: str, option: str, what: str) -> Any:
    """Return what a module has by that name; modules of the current folder come first.

    Raises ``InputError`` for a name of another form, a module that cannot be imported, with the
    line that raised, and a name that is missing.
    """
    module, colon, attribute = name.rpartition(":")
    if not (colon and module and attribute):
        kind = what.lower()
        raise InputError(f"{option} {name!r}: no {kind} is named (expected MODULE:{what})")
    value: Any = called(lambda: _module(module), f"{option} {name!r}: module {module!r}")
    for part in attribute.split("."):
        if not hasattr(value, part):
            guesses = near(part, vars(value)) if hasattr(value, "__dict__") else []
            guess = f" Did you mean {' or '.join(map(repr, guesses))}?" if guesses else ""
            raise InputError(f"{option} {name!r}: {module!r} has no {part!r}.{guess}")
        value = getattr(value, part)
    return value


def called(function: Callable[[], Any], subject: str) -> Any:
    """Return what a user's code returns; what it raises is an ``InputError`` with its line."""
    try:
        return function()
    except InputError:
        raise
    except (Exception, SystemExit) as cause:
        raise raised(cause, subject) from cause


def raised(cause: BaseException, subject: str) -> InputError:
    """Return the error for what a user's code raised, with the line of that code."""
    return InputError(f"{subject}: it raised {type(cause).__name__}: {cause}{place(cause)}")


def _module(name: str) -> ModuleType:
    if name.endswith(".py"):
        return _of_file(Path(name))
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as cause:
        if cause.name and (name == cause.name or name.startswith(f"{cause.name}.")):
            raise InputError(
                f"module {name!r} cannot be imported: it is neither in the current folder nor "
                "installed (expected one of them)"
            ) from cause
        raise


def _of_file(path: Path) -> ModuleType:
    """Return the module of a file, whose folder comes first for the modules that it imports."""
    import cloudpickle

    if not path.is_file():
        raise InputError(f"{path} is not a file (expected a file of Python)")
    folder, name = str(path.resolve().parent), path.stem
    if folder not in sys.path:
        sys.path.insert(0, folder)
    known = sys.modules.get(name)
    if known is not None:
        if Path(known.__file__ or "").resolve() != path.resolve():
            raise InputError(f"{path}: another module has the name {name!r}. Rename the file.")
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    cloudpickle.register_pickle_by_value(module)  # other processes do not find it by its name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
