"""Models with real weights, or with planted outliers, and the data to judge them by.

``ZOO[name]()`` returns a :class:`~real.subject.Subject`; ``import real`` imports none of the
packages that hold weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from real.subject import Metric, Subject, sqnr

__all__ = ["ZOO", "Metric", "Subject", "make", "sqnr"]


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
    "crossing_bert": partial(_made, "planted", "bert", crossing=True),
    "mlp": partial(_made, "tabular"),
    "crepe": partial(_made, "crepe"),
    "ocr_orientation": partial(_made, "orientation"),
    "ocr_recogniser": partial(_made, "recogniser"),
    "char_gpt": partial(_made, "char_gpt"),
    "decoder": partial(_made, "decoder"),
    "planted_decoder": partial(_made, "decoder", planted=True),
    "speaker": partial(_made, "speaker"),
    "unet_denoiser": partial(_made, "denoiser"),
}

TRAINED = frozenset(
    {"mlp", "char_gpt", "decoder", "planted_decoder", "unet_denoiser"}
)  # when they are made


def make(name: str, cache: Path | None = None) -> Subject:
    """Return a model of the zoo; ``cache`` is a folder that keeps the weights of trained ones."""
    return ZOO[name](cache=cache) if name in TRAINED else ZOO[name]()
