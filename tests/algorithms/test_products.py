"""Pins that a layer of any kind is the product of its rows with the columns of its input."""

from __future__ import annotations

import pytest
import torch
from layered import KINDS, batches

from qreg.algorithms.layers import layers
from qreg.algorithms.products import columns, of_rows, rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_a_product(kind: str) -> None:
    model, shape = KINDS[kind]
    (x,) = batches(shape)[0]
    (layer,) = layers(torch.export.export(model.eval(), (x,)).module(check_guards=False))
    weight = rows(layer, layer.weight.detach())
    product = columns(layer, x) @ weight.transpose(1, 2)  # (groups, samples, rows)
    with torch.no_grad():
        output = model(x)
    if layer.bias is not None:
        output = output - layer.along_channels(layer.bias.detach(), output)
    batched = output.unsqueeze(0) if "unbatched" in kind else output
    found = product.transpose(0, 1).flatten(1)  # (samples, channels)
    torch.testing.assert_close(found, batched.movedim(layer.channels, -1).flatten(0, -2))
    assert torch.equal(of_rows(layer, weight), layer.weight)
