"""The log of qreg, and warnings of other libraries that are unrelated to the user's model."""

from __future__ import annotations

import logging
import sys

LOG = logging.getLogger("qreg")
NOISY = ("torchao", "torch.utils._pytree")


def say(line: str) -> None:
    """Log a line for users: with the handlers of the logger ``qreg``, or else on standard error."""
    if LOG.handlers:
        LOG.info(line)
    else:
        sys.stderr.write(f"{line}\n")


def is_quiet() -> bool:
    """Whether the logger ``qreg`` has handlers that get no lines for users."""
    return bool(LOG.handlers) and not LOG.isEnabledFor(logging.INFO)


def quiet_imports() -> None:
    """Suppress warnings of torchao 0.18 on import, about GPU extensions and enum types."""
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
