"""Pins that a cache that a model returns is omitted where torch.export does not know its type."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qreg.errors import ExportError
from qreg.programs.export import exported

X = torch.randn(2, 4)


class Cache:
    def __init__(self, keys: Tensor) -> None:
        self.keys = keys


class Decoder(nn.Module):
    """Returns a cache as the decoders of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.config = types.SimpleNamespace(use_cache=True)

    def forward(self, x: Tensor, use_cache: bool | None = None) -> dict[str, Any]:
        caches = self.config.use_cache if use_cache is None else use_cache
        return {"logits": self.linear(x)} | ({"cache": Cache(x)} if caches else {})


class Wrapped(nn.Module):
    """Returns the tensors of the cache."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = Decoder()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.decoder(x)
        return outputs["logits"], outputs["cache"].keys + 1


def test_a_cache_of_an_unknown_type_is_omitted() -> None:
    model = Decoder()
    program, _ = exported(model, X, None)
    outputs = program.module()(X)
    assert list(outputs) == ["logits"]
    assert torch.equal(outputs["logits"], model(X)["logits"])
    assert model.config.use_cache


def test_a_cache_whose_tensors_are_returned_stays() -> None:
    program, _ = exported(Wrapped(), X, None)
    assert torch.equal(program.module()(X)[1], X + 1)


def test_a_cache_that_the_call_asks_for_is_an_error() -> None:
    model = Decoder()
    with pytest.raises(ExportError, match="The model returns a Cache, which is not a registered"):
        exported(model, {"x": X, "use_cache": True}, None)
    assert model.config.use_cache
