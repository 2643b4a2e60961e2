"""Attributes to a plugin what its functions raise, and what they return of the wrong type.

A value that crosses the border from a plugin carries functions, which are called long after the
hook that returned it. Without a name on it, their error would look like one of qreg's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qreg.errors import PluginError, QregError
from qreg.plugins.supplied import Supplied


def call(
    supplied: Supplied[Any],
    role: str,
    function: Callable[..., Any],
    *arguments: Any,
    expected: type | tuple[type, ...],
) -> Any:
    """What a function of a supplied value returns; ``role`` is what messages call the function.

    Raises ``PluginError``, with the cause chained, for whatever it raises that is not an error of
    qreg, and for an answer that is not an instance of ``expected``.
    """
    try:
        answer = function(*arguments)
    except QregError:
        raise
    except Exception as cause:
        raise blamed(supplied, role, f"it raised {cause!r}") from cause
    if not isinstance(answer, expected):
        types = expected if isinstance(expected, tuple) else (expected,)
        names = " or ".join("None" if each is type(None) else each.__name__ for each in types)
        raise blamed(supplied, role, f"it returned {answer!r} (expected {names})")
    return answer


def blamed(supplied: Supplied[Any], role: str, problem: str) -> PluginError:
    """The error that attributes a problem to the plugin of a supplied value."""
    return supplied.source.blamed(problem, hook=role)
