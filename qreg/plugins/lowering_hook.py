"""Call ``qreg_lower`` of one plugin, and attribute its errors to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qreg.errors import LoweringError, QregError
from qreg.plugins.manager import PluginHost
from qreg.plugins.plugin import Plugin
from qreg.plugins.types.program import Lowered


def lowered_by(host: PluginHost, plugin: Plugin, asked: Mapping[str, Any]) -> Lowered | None:
    """Return what a plugin lowered to, or None if it does not lower for the backend.

    ``asked`` are the arguments of the hook. Raises ``LoweringError`` for an error of the plugin,
    which is chained, and for a result of another type.
    """
    try:
        answers = host.call(plugin, "qreg_lower", **asked)
    except QregError:
        raise
    except Exception as cause:  # raised by a plugin
        problem = f"backend {asked['backend']!r} could not lower the program: {cause}"
        raise _failed_lowering(plugin, problem) from cause
    if answers and not isinstance(answers[0], Lowered):
        problem = f"plugin {plugin.name!r} lowered to {answers[0]!r}, which is not a Lowered"
        raise _failed_lowering(plugin, problem)
    return answers[0] if answers else None


def _failed_lowering(plugin: Plugin, problem: str) -> LoweringError:
    return LoweringError(
        f"{problem} (in qreg_lower of {plugin.origin})",
        plugin=plugin.name,
        distribution=plugin.distribution,
        version=plugin.version,
        hook="qreg_lower",
    )
