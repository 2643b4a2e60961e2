"""Arguments that several public functions share, and what all of these functions do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, ParamSpec, TypedDict, TypeVar

import torch

from qreg.errors import UnknownArgumentError
from qreg.pipeline.selection import Algorithms
from qreg.plugins.registry import Registry
from qreg.quantizer.registry_quantizer import Config, RegistryQuantizer
from qreg.recipes.recipe import Recipe

P = ParamSpec("P")
T = TypeVar("T")


class LowerOptions(TypedDict, total=False):
    """The arguments of :func:`qreg.lower`, which all functions of the pipeline accept."""

    backend: str
    dynamic_shapes: Any
    options: Mapping[str, Any] | None
    registry: Registry | None


class QuantizeOptions(LowerOptions, total=False):
    """The arguments that :func:`qreg.quantize` and :func:`qreg.explain` share.

    Both functions spell them out, with their defaults, for readers, ``help`` and editors. Code that
    passes the arguments on uses this type. A test compares the two.
    """

    calibration: Iterable[Any] | None
    max_batches: int | None
    transform: Callable[[Any], Any] | None
    config: Config
    quantizer: RegistryQuantizer | None
    algorithms: Algorithms
    workers: int | None
    verify: bool
    min_sqnr: float
    timeout: float | None
    recipe: Recipe | str | Path | None
    progress: bool | None


def public_function(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function of the API with what all of them do.

    Unknown keywords raise ``UnknownArgumentError``, with near names. The function runs outside of
    torch's inference mode, whose tensors have no gradients: algorithms and the sensitivity need
    them.
    """
    known = signature(function).parameters

    @wraps(function)
    def checked(*arguments: P.args, **named: P.kwargs) -> T:
        for name in named:
            if name not in known:
                raise UnknownArgumentError(function.__name__, name, known)
        inference = torch.is_inference_mode_enabled()
        with torch.inference_mode(False) if inference else nullcontext():
            return function(*arguments, **named)

    return checked
