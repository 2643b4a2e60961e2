"""Models with real weights, or with planted outliers, and the data to judge them by.

``ZOO[name]()`` returns a :class:`~real.subject.Subject`; ``import real`` imports none of the
packages that hold weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from real.subject import Metric, Subject, sqnr

__all__ = ["ZOO", "Metric", "Subject", "sqnr"]


def _made(module: str, function: str = "subject", /, **options: Any) -> Subject:
    made: Subject = getattr(import_module(f"real.{module}"), function)(**options)
    return made


ZOO: dict[str, Callable[..., Subject]] = {
    "efficientnet": partial(_made, "efficientnet"),
    "minilm": partial(_made, "minilm"),
    "vit": partial(_made, "planted", "vit"),
    "planted_vit": partial(_made, "planted", "vit", planted=True),
    "bert": partial(_made, "planted", "bert"),
    "planted_bert": partial(_made, "planted", "bert", planted=True),
}
