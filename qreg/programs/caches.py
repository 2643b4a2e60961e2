"""Export language models without the caches that they return.

A language model of transformers (5.24) returns the keys and values of its layers, in a type that
torch.export (2.13) does not know, if ``use_cache`` of its config is true, which is the default.
A program that does not accept a cache has no use for one that it returned.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

SETTING = "use_cache"


def has_caches(model: torch.nn.Module) -> bool:
    """Whether a config in the model asks for caches."""
    return bool(_configs(model))


@contextmanager
def without_caches(model: torch.nn.Module) -> Iterator[None]:
    """Have no config in the model ask for caches, and restore the configs on exit.

    An argument ``use_cache`` of the model takes precedence over its config.
    """
    configs = _configs(model)
    for config in configs:
        setattr(config, SETTING, False)
    try:
        yield
    finally:
        for config in configs:
            setattr(config, SETTING, True)


def _configs(model: torch.nn.Module) -> list[Any]:
    found = {id(config): config for config in _all_configs(model)}
    return [config for config in found.values() if getattr(config, SETTING, None) is True]


def _all_configs(model: torch.nn.Module) -> Iterator[Any]:
    for module in model.modules():
        yield getattr(module, "config", None)
