"""Attribute errors and wrong return types of a plugin's functions to the plugin.

Values from plugins contain functions that are called long after the hook that returned the value.
Without the name of the plugin, their errors would look like errors of qreg.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qreg.errors import PluginError, QregError
from qreg.plugins.supplied import Supplied
from qreg.utils.traces import place, short


def call(
    supplied: Supplied[Any],
    role: str,
    function: Callable[..., Any],
    *arguments: Any,
    expected: type | tuple[type, ...],
) -> Any:
    """Call a function of a supplied value; ``role`` is the name of the function in messages.

    Raises ``PluginError``, with the cause chained, if the function raises an error that is not a
    ``QregError``, and if its result is not an instance of ``expected``.
    """
    try:
        answer = function(*arguments)
    except QregError:
        raise
    except Exception as cause:  # raised by a plugin
        raise blamed(supplied, role, f"it raised {short(cause)}{place(cause)}") from cause
    if not isinstance(answer, expected):
        types = expected if isinstance(expected, tuple) else (expected,)
        names = " or ".join("None" if each is type(None) else each.__name__ for each in types)
        raise blamed(supplied, role, f"it returned {answer!r} (expected {names})")
    return answer


def blamed(supplied: Supplied[Any], role: str, problem: str) -> PluginError:
    """Return the error that attributes a problem to the plugin of a supplied value."""
    return supplied.source.blamed(problem, hook=role)
