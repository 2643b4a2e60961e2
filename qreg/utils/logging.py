"""Keeps warnings of third parties quiet that say nothing about the user's model."""

from __future__ import annotations

import logging


def quiet_imports() -> None:
    """torchao 0.18 warns, on import, of GPU extensions and enum types that are no matter here."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
