"""Suppress third-party warnings that are unrelated to the user's model."""

from __future__ import annotations

import logging


def quiet_imports() -> None:
    """Suppress warnings of torchao 0.18 on import, about GPU extensions and enum types."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
